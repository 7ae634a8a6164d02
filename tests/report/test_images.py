"""What the report and ``sae explain`` say of SAEs on a model that reads images, on a real run."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from report.runs import fit, panel, unpack

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.datamodules import ClipImages
from sae_lightning.images import ImageFolder
from sae_lightning.report.explorer import context_of
from sae_lightning.report.latents import gather
from sae_lightning.report.sections.latent_images import latent_images
from sae_lightning.runs import Run
from sae_lightning.saes import TopK

D_SAE, HOOK = 48, "visual.transformer.resblocks.0"
SIZES = {"batch_size": 64, "train_samples": 640, "val_samples": 256, "buffer_samples": 512, "images_per_forward": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    before = torch.get_float32_matmul_precision()
    yield tmp_path_factory.mktemp("pictures_report")
    torch.set_float32_matmul_precision(before)


def fit_clip(folder, name, tiny_clip, image_folder, **settings):
    images = {"class_path": "ImageFolder", "init_args": {"folder": image_folder, "heldout_every": 2}}
    sizes = SIZES | {"n_workers": 1} | settings
    sae = panel(k=3, d_sae=D_SAE, scale_input=True)
    return fit(folder, name, sae, "ClipImages", model=tiny_clip, hook=HOOK, images=images, **sizes)


@pytest.fixture(scope="module")
def run(folder, tiny_clip, image_folder):
    return fit_clip(folder, "clip", tiny_clip, image_folder)


@pytest.fixture(scope="module")
def gathered(run):
    return gather(Run(run), D_SAE)


@pytest.fixture(scope="module")
def activations(tiny_clip, image_folder):
    """[picture, position, d_in] of the held-out pictures, and their numbers."""
    datamodule = ClipImages(tiny_clip, HOOK, ImageFolder(image_folder, heldout_every=2), **SIZES, n_workers=1)
    numbers = datamodule.images.numbers("heldout")
    x, _ = datamodule.source.capture(datamodule.inputs(numbers[:, None]))
    return x, numbers.tolist()


def test_frequencies_and_examples_are_what_the_sae_says_of_the_model(run, gathered, activations):
    x, numbers = activations
    assert (gathered.unit, gathered.n_read, gathered.n_images) == ("position", 30 * 17, 30)
    assert [str(one.member) for one in gathered.members] == ["trained/3", "frozen_decoder/3"]
    for member in gathered.members:
        latents = (
            TopK.load(run / "saes" / str(member.member)).encode(x.flatten(0, 1)).to_dense().view(30, 17, D_SAE).detach()
        )
        n_maps = 0
        for record in member.latents:
            of = latents[:, :, record["latent"]]
            assert record["frequency"] == pytest.approx(float((of != 0).double().mean()), rel=0.01)
            peaks = of.amax(1)
            assert (record["histogram"] or {"n": 0})["n"] == int((peaks > 0).sum())
            strongest = peaks.sort(descending=True).values[:5]
            shown = [example["activation"] for example in record["examples"]]
            assert shown == pytest.approx(strongest[strongest > 0].tolist(), rel=0.01)
            assert len(record["quarters"]) == (4 if (peaks > 0).sum() >= 8 else 0)
            of_quarters = [max(example["activation"] for example in quarter) for quarter in record["quarters"]]
            assert of_quarters == sorted(of_quarters, reverse=True)
            for example in [*record["examples"], *sum(record["quarters"], [])]:
                own = of[numbers.index(example["image"])]
                assert example["activation"] == pytest.approx(float(own.max()), rel=0.01)
                torch.testing.assert_close(
                    torch.tensor(example["heat"], dtype=own.dtype), own[1:].view(4, 4), rtol=0.06, atol=1e-3
                )
                assert example.get("elsewhere", False) == bool(own.argmax() == 0)
                n_maps += 1
        assert n_maps > 50


def test_words_are_what_most_of_the_top_pictures_show(gathered, image_folder):
    images = ImageFolder(image_folder, heldout_every=2)
    for record in gathered.members[0].latents:
        colours = [images.shown(example["image"])["class"] for example in record["examples"]]
        most = [colour for colour in set(colours) if 2 * colours.count(colour) > len(colours)]
        assert record["tokens"] == most


def test_each_picture_is_stored_once_and_small(gathered, image_folder):
    images = ImageFolder(image_folder, heldout_every=2)
    context = context_of(gathered, None)
    manifest = unpack(context["manifest"])
    stored = [of for name, part in context["parts"].items() if name.startswith("images-") for of in unpack(part)]
    examples = [of for record in gathered.members[1].latents for of in record["examples"]]
    assert {example["image"] for example in examples} <= set(manifest["images"])
    assert len(set(manifest["images"])) == len(stored) <= 30
    assert '"data:' not in json.dumps([unpack(part) for name, part in context["parts"].items() if "images" not in name])
    for number, of in zip(manifest["images"], stored, strict=True):
        assert of["shows"] == f"class {images.shown(number)['class']}"
        with Image.open(io.BytesIO(base64.b64decode(of["src"].partition("base64,")[2]))) as image:
            assert image.size == (32, 32)
            original = images.image(number).convert("RGB").getpixel((30, 30))
            assert image.convert("RGB").getpixel((30, 30)) == pytest.approx(original, abs=6)


def test_the_class_token_has_no_map(folder, tiny_clip, image_folder):
    run = fit_clip(
        folder, "cls", tiny_clip, image_folder, positions="cls", batch_size=8, val_samples=16, train_samples=80
    )
    found = gather(Run(run), D_SAE)
    assert found.n_read == found.n_images == 30
    examples = [of for record in found.members[0].latents for of in record["examples"]]
    assert examples
    assert not any("heat" in of for of in examples)


def test_a_cache_of_pictures_shows_them_too(run, folder, gathered):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": config["data"]}))
    main(["cache", "--config", str(folder / "data.yaml"), "--out", str(folder / "cache")])
    other = folder / "of_cache"
    (other / "saes").parent.mkdir()
    (other / "saes").symlink_to(run / "saes")
    config["data"] = {
        "class_path": "CachedActivations",
        "init_args": {"path": str(folder / "cache"), "batch_size": 64, "max_norm_ratio": 10.0},
    }
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    assert gather(Run(other), D_SAE) == gathered


def test_pages_of_latent_pictures_are_shown(run):
    (run / "pictures").mkdir()
    assert not list(latent_images(Run(run)))
    noise = np.random.default_rng(0).integers(0, 255, (150, 2100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "pictures/compared.png")
    main(["report", str(run), "--latents", "3"])
    page = (run / "report.html").read_text()
    assert "Images of latents" in page
    (shown,) = re.findall('<img src="data:image/webp;base64,([^"]*)"', page)
    assert len(shown) < (run / "pictures/compared.png").stat().st_size / 4, "200 latents have room in 2 MB"
    with Image.open(io.BytesIO(base64.b64decode(shown))) as image:
        assert image.size == (1400, 100)
    assert "img-src data:" in page
    (run / "pictures/compared.png").write_bytes(bytes(4_000_000))
    assert not list(latent_images(Run(run)))


def test_explain_names_the_strongest_pictures(run, gathered, activations, capsys):
    record = max(gathered.members[0].latents, key=lambda record: record["frequency"])
    arguments = ["explain", str(run), "trained/3", str(record["latent"]), "--n", "3"]
    capsys.readouterr()
    main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["text"] is found["logits"] is None
    assert found["images"]["frequency"] == pytest.approx(record["frequency"], rel=0.01)
    assert [of["image"] for of in found["images"]["examples"]] == [example["image"] for example in record["examples"]][
        :3
    ]
    first = found["images"]["examples"][0]
    assert first["name"].endswith(".png")
    assert first["shows"]["class"] in first["name"]
    main(arguments)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{first['activation']:.3g} {first['name']}: class {first['shows']['class']}" in printed
