import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lightning.datamodules import ClipImages
from sae_lightning.evaluators import LatentImages
from sae_lightning.freeze import FrozenEncoder, NoFreeze
from sae_lightning.images import ImageFolder
from sae_lightning.interpretation.image_examples import ImageExample
from sae_lightning.interpretation.image_pages import with_heat
from sae_lightning.loggers import MemberTensorBoardLogger
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK

D_SAE = 24


def data(tiny_clip, image_folder, hook="visual.transformer.resblocks.0", **settings):
    defaults = {
        "batch_size": 64, "train_samples": 640, "val_samples": 256, "buffer_samples": 512, "images_per_forward": 4,
        "n_workers": 1,
    }  # fmt: skip
    return ClipImages(tiny_clip, hook, ImageFolder(image_folder, heldout_every=2), **(defaults | settings))


def draw(folder, datamodule, module=None, **settings):
    policies = {"trained": NoFreeze(), "frozen_encoder": FrozenEncoder()}
    module = module or SanityPanel(
        datamodule.d_in, lambda d_in: TopK(d_in, k=4, d_sae=D_SAE), policies, seeds=[0, 1], widths=datamodule.widths
    )
    trainer = Trainer(
        logger=MemberTensorBoardLogger(str(folder), "drawn", 0), callbacks=[LatentImages(**settings)],
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.validate(module, datamodule, verbose=False)
    return folder / "drawn" / "version_0", module


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def lines(run):
    return [json.loads(line) for line in (run / "pictures" / "pictures.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, tiny_clip, image_folder):
    datamodule = data(tiny_clip, image_folder)
    run, module = draw(tmp_path_factory.mktemp("pictures"), datamodule, latents=3, n_each=2)
    return run, module, datamodule


def test_a_page_for_each_member_and_one_of_all(drawn):
    run, module, _ = drawn
    names = {member.folder for member in module.members} | {"compared"}
    assert {path.stem for path in (run / "pictures").glob("*.png")} == names
    for name in names:
        page = pixels(run / "pictures" / f"{name}.png")
        assert page.shape[0] > 600
        assert page.shape[1] > 900
        assert (page.max(2) - page.min(2) > 100).mean() > 0.01, "the images have colours"


def test_what_is_drawn_is_kept_for_programs(drawn):
    run, module, datamodule = drawn
    found = lines(run)
    assert [line["member"] for line in found] == [str(member) for member in module.members for _ in range(3)]
    numbers = set(datamodule.images.numbers("heldout").tolist())
    for line in found:
        sae = module.members[Member.parse(line["member"])].eval()
        assert 0 < line["frequency"] <= 1
        assert {example["percentile"] for example in line["examples"]} == {100, 75, 50, 25}
        activations = [example["activation"] for example in line["examples"]]
        assert activations == sorted(activations, reverse=True)
        for example in line["examples"]:
            assert example["picture"] in numbers
            assert example["name"] == datamodule.images.name(example["picture"])
            assert max(pixels(run / "pictures" / example["file"]).shape) <= 96
            inputs = datamodule.inputs(torch.tensor([[example["picture"]]]))
            activations, _ = datamodule.source.capture(inputs)
            latents = sae.encode(activations[0]).to_dense()[:, line["latent"]]
            assert example["activation"] == pytest.approx(float(latents.max()), abs=1e-4)
            torch.testing.assert_close(torch.tensor(example["heat"]), latents[1:].view(4, 4), atol=1e-3, rtol=0)


def test_the_first_of_the_strongest_is_the_strongest_of_all(drawn):
    run, module, datamodule = drawn
    rows = datamodule.images.numbers("heldout")[:, None]
    activations, mask = datamodule.source.capture(datamodule.inputs(rows))
    for line in lines(run):
        sae = module.members[Member.parse(line["member"])].eval()
        peaks = sae.encode(activations[mask]).to_dense()[:, line["latent"]].view(len(rows), -1).amax(1)
        assert line["examples"][0]["activation"] == pytest.approx(float(peaks.max()), abs=1e-4)
        assert [example["percentile"] for example in line["examples"]][:2] == [100, 100]


def test_tensorboard_has_the_pages(drawn):
    run, _, _ = drawn
    for folder in ("trained-0", "frozen_encoder-1", "."):
        events = EventAccumulator(str(run / folder)).Reload()
        assert events.Tags()["images"] == ["val/latent_pictures"], folder


def test_thumbnails_show_what_the_model_sees(drawn, image_folder):
    run, _, datamodule = drawn
    example = lines(run)[0]["examples"][0]
    thumbnail = pixels(run / "pictures" / example["file"]).astype(int)
    original = np.asarray(datamodule.images.image(example["picture"])).astype(int)
    assert np.abs(thumbnail - original).max() <= 1  # 32 pixels are left as they are


def test_the_class_token_has_no_map(tmp_path, tiny_clip, image_folder):
    run, _ = draw(tmp_path, data(tiny_clip, image_folder, positions="cls", batch_size=8, val_samples=24), latents=2)
    assert {json.dumps(example["heat"]) for line in lines(run) for example in line["examples"]} == {"null"}
    assert (run / "pictures" / "trained-0.png").is_file()


def test_parts_have_folders(tmp_path, tiny_clip, image_folder):
    hooks = {"early": "visual.transformer.resblocks.0", "late": "visual.transformer.resblocks.1"}
    datamodule = data(tiny_clip, image_folder, hooks)
    run, _ = draw(tmp_path, datamodule, latents=1, n_each=1)
    for part in hooks:
        names = {path.stem for path in (run / "pictures" / part).glob("*.png")}
        assert names == {"compared", "trained-0", "trained-1", "frozen_encoder-0", "frozen_encoder-1"}
    events = EventAccumulator(str(run)).Reload()
    assert set(events.Tags()["images"]) == {"val/latent_pictures@early", "val/latent_pictures@late"}


def test_a_latent_that_never_fires_has_no_examples(tmp_path, tiny_clip, image_folder):
    datamodule = data(tiny_clip, image_folder)
    module = TopK(datamodule.d_in, k=4, d_sae=D_SAE)
    module.initialise(0)
    with torch.no_grad():
        module.b_enc[5] = -1e6
    run, _ = draw(tmp_path, datamodule, module, latents=[5, 2])
    dead, alive = lines(run)
    assert (dead["latent"], dead["frequency"], dead["examples"]) == (5, 0, [])
    assert alive["latent"] == 2
    assert alive["examples"]


def test_heat_colours_the_patches_where_the_latent_fires():
    heat = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    coloured = with_heat(np.full((8, 8, 3), 128), ImageExample(0, "", 100, 2.0, heat))
    saturation = coloured.max(2) - coloured.min(2)
    assert saturation[0, 0] == saturation[7, 7] == 0
    assert saturation[0, 7] > 1.5 * saturation[7, 0] > 50


def test_without_a_run_folder_nothing_is_written(trainer, tiny_clip, image_folder):
    datamodule = data(tiny_clip, image_folder)
    module = TopK(datamodule.d_in, k=4, d_sae=D_SAE)
    module.initialise(0)
    evaluator = LatentImages()
    trainer(evaluator).validate(module, datamodule, verbose=False)
    assert evaluator.measured == {}


def test_bad_arguments(trainer, tiny_clip, image_folder):
    for settings in ({"latents": 0}, {"latents": []}, {"n_each": 0}):
        with pytest.raises(ValueError, match="expected (a whole number, 1 or more|one number or more, each once)"):
            LatentImages(**settings)
    with pytest.raises(ValueError, match="each once"):
        LatentImages([1, 1])
    datamodule = data(tiny_clip, image_folder)
    with pytest.raises(ValueError, match="latents=24: expected 0 to 23 for d_sae=24"):
        trainer(LatentImages([3, 24])).validate(TopK(datamodule.d_in, k=4, d_sae=D_SAE), datamodule, verbose=False)
