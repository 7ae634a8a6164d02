"""What every datamodule promises."""

import inspect
from copy import deepcopy
from itertools import islice
from types import SimpleNamespace

import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import sae_lightning.datamodules as datamodules
from sae_lightning.datamodules import (
    ActivationDataModule,
    ActivationFiles,
    ActivationTensors,
    CachedActivations,
    ClipImages,
    ClipText,
    DecoderDirections,
    FileText,
    LanguageModelDataModule,
    SyntheticDataModule,
)
from sae_lightning.datamodules.cache.writer import CacheWriter
from sae_lightning.images import ImageFolder
from sae_lightning.saes import TopK
from sae_lightning.sources import GaussianMatched, RandomRotation, Reinitialised, ShuffledDimensions

N = 6
BATCH = 64


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    return tiny.save_text(tmp_path_factory.mktemp("text") / "text.jsonl", 150)


def synthetic(**kwargs):
    return SyntheticDataModule(
        d_in=8, n_features=40, **{"batch_size": BATCH, "train_samples": 12 * BATCH, "val_samples": 3 * BATCH} | kwargs
    )


@pytest.fixture(scope="session")
def cache(tmp_path_factory, tiny_lm, text_file):
    folder = str(tmp_path_factory.mktemp("cache"))
    data = {"model": tiny_lm, "hook": "model.layers.0", "hook_input": False, "revision": None, "dtype": "auto"}
    data |= {"context_length": 16, "llm_batch_size": 4, "tokenizer": None, "bos_in_every_row": True}
    datamodule = LanguageModelDataModule(
        text=FileText(text_file, heldout_every=5),
        **data,
        **{"batch_size": BATCH, "train_samples": 12 * BATCH, "val_samples": 3 * BATCH, "buffer_samples": 200},
    )
    assert CacheWriter(datamodule, data, folder, shard_samples=200).write()
    return folder


@pytest.fixture
def make(request, tiny_lm, text_file):
    """Makes a new datamodule of the class under test: twelve training and up to three validation batches of 64."""

    def language_model(**kwargs):
        small = {"batch_size": BATCH, "train_samples": 12 * BATCH, "val_samples": 3 * BATCH, "loss_samples": 100}
        small |= {"context_length": 16, "buffer_samples": 200, "llm_batch_size": 4}
        text = FileText(text_file, heldout_every=5)
        return LanguageModelDataModule(tiny_lm, "model.layers.0", **{"text": text} | small | kwargs)

    def cached(**kwargs):
        small = {"batch_size": BATCH, "train_samples": 12 * BATCH, "val_samples": 3 * BATCH, "buffer_samples": 200}
        order = "stream" if request.param == "cached, order stream" else "shuffled"
        return CachedActivations(request.getfixturevalue("cache"), order, **small | kwargs)

    def clip(kind, hook, data, **kwargs):
        small = {"batch_size": BATCH, "train_samples": 12 * BATCH, "val_samples": 3 * BATCH, "loss_samples": 100}
        model = request.getfixturevalue("tiny_clip")
        return kind(model, hook, data, **small | {"buffer_samples": 300} | kwargs)

    def clip_images(**kwargs):
        images = ImageFolder(request.getfixturevalue("image_folder"), heldout_every=4)
        hook = "visual.transformer.resblocks.0"
        return clip(ClipImages, hook, images, images_per_forward=4, n_workers=2, **kwargs)

    def clip_text(**kwargs):
        return clip(
            ClipText, "transformer.resblocks.0", FileText(text_file, heldout_every=5), captions_per_forward=4, **kwargs
        )

    def nulls(**kwargs):
        noise = {"gaussian": GaussianMatched(), "shuffled": ShuffledDimensions(), "rotated": RandomRotation()}
        if request.param == "synthetic, nulls":
            return synthetic(nulls=noise, **kwargs)
        return language_model(nulls=noise | {"reinitialised": Reinitialised()}, **kwargs)

    def directions(**kwargs):
        folder = request.getfixturevalue("tmp_path") / "sae"
        TopK(8, k=2, d_sae=3 * BATCH).save(folder)
        small = {"batch_size": BATCH, "train_samples": 12 * BATCH, "nulls": {"gaussian": GaussianMatched()}}
        return DecoderDirections([str(folder)], **small | kwargs)

    def files(**kwargs):
        x = torch.randn(12 * BATCH + 3 * BATCH, 8, generator=torch.Generator().manual_seed(0))
        small = {"batch_size": BATCH, "train_samples": 12 * BATCH, "val_samples": 3 * BATCH, "heldout_fraction": 0.2}
        noise = {"gaussian": GaussianMatched(), "rotated": RandomRotation()}
        if request.param is ActivationTensors:
            return ActivationTensors(x, groups=torch.arange(len(x)) // 8, **small | kwargs)
        path = request.getfixturevalue("tmp_path") / "activations.pt"
        torch.save(x, path)
        return ActivationFiles(
            str(path), **small | ({"nulls": noise} if "nulls" in str(request.param) else {}) | kwargs
        )

    if "files" in str(request.param):
        return files
    makers = {SyntheticDataModule: synthetic, LanguageModelDataModule: language_model, DecoderDirections: directions}
    makers |= {ClipImages: clip_images, ClipText: clip_text, ActivationFiles: files, ActivationTensors: files}
    return makers.get(request.param, nulls if "nulls" in str(request.param) else cached)


HELD_OUT = [SyntheticDataModule, LanguageModelDataModule, CachedActivations, ClipImages, ClipText]
HELD_OUT += [ActivationFiles, ActivationTensors]
ALL = [*HELD_OUT, DecoderDirections]  # whose validation is all of its data
OTHERS = ["cached, order stream", "synthetic, nulls", "language model, nulls", "files, nulls"]
every_datamodule = pytest.mark.parametrize("make", [*ALL, *OTHERS], indirect=True)
every_one_that_holds_out = pytest.mark.parametrize("make", [*HELD_OUT, *OTHERS], indirect=True)
language_model = pytest.mark.parametrize("make", [LanguageModelDataModule], indirect=True)


def test_every_exported_datamodule_is_under_test():
    exported = {v for v in vars(datamodules).values() if inspect.isclass(v) and issubclass(v, ActivationDataModule)}
    assert {v for v in exported if not inspect.isabstract(v)} == set(ALL)


class Recorder(LightningModule):
    """Trains nothing and keeps the batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.clone())
        return self.weight * batch.mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch.clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(datamodule, folder, ckpt_path=None, **kwargs):
    module = Recorder()
    defaults = {"max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0} | kwargs
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **defaults,
    )
    trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path)
    return module


def equal(a, b):
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@every_datamodule
def test_loaders(make):
    datamodule = make()
    assert isinstance(datamodule.d_in, int)
    assert datamodule.d_in == datamodule.source.d_in
    datamodule.setup("fit")
    for loader in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader()):
        batches = list(loader)
        assert len(batches) == len(loader) > 0
        assert all(x.shape == (BATCH, datamodule.d_in) and x.dtype == torch.float32 for x in batches)
        assert all(x.isfinite().all() and not x.requires_grad and not x.is_inference() for x in batches)
    assert len(datamodule.train_dataloader()) == 12
    assert len(datamodule.val_dataloader()) == 3
    assert equal(list(datamodule.val_dataloader()), list(datamodule.test_dataloader()))


@every_datamodule
def test_what_the_data_do_not_have_is_none(make):
    datamodule = make()
    source = datamodule.source
    assert (datamodule.images is not None) == (datamodule.mask is not None) == source.reads_images
    assert (datamodule.val_codes() is None) == (datamodule.held_out() is None) == (source.features is None)
    assert (source.features is None) == (source.firing_probabilities is None)
    runs_a_model = next(datamodule.validation_inputs(), None) is not None
    assert runs_a_model == (source.is_language_model or source.embeds_images)
    assert runs_a_model == (datamodule.packing is not None or datamodule.images is not None)
    assert source.to("cpu") is source
    assert source.device == torch.device("cpu")
    assert set(datamodule.null_parts) == set(datamodule.widths) - {""}
    datamodule.use_starting_dictionaries({})


@every_datamodule
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_resumed_run_continues_with_the_next_batch(make, tmp_path, epochs):
    stop = N if epochs == 1 else 12 + N
    whole = fit(make(), tmp_path, max_epochs=epochs, callbacks=[SaveAt(stop, tmp_path / "stop.ckpt")]).seen
    assert len(whole) == 12 * epochs
    resumed = fit(make(), tmp_path, max_epochs=epochs, ckpt_path=tmp_path / "stop.ckpt").seen
    assert equal(resumed, whole[stop:])
    assert not equal(whole[:N], whole[-N:])


@every_datamodule
def test_resume_with_validation_in_the_epoch(make, tmp_path):
    validate = {"limit_val_batches": 2, "val_check_interval": 3, "num_sanity_val_steps": 1}
    whole = fit(make(), tmp_path, callbacks=[SaveAt(4, tmp_path / "stop.ckpt")], **validate).seen
    assert equal(fit(make(), tmp_path, ckpt_path=tmp_path / "stop.ckpt", **validate).seen, whole[4:])


@every_datamodule
def test_resume_at_the_end_of_an_epoch(make, tmp_path):
    whole = fit(make(), tmp_path, max_epochs=2, callbacks=[SaveAt(12, tmp_path / "stop.ckpt")]).seen
    assert equal(fit(make(), tmp_path, max_epochs=2, ckpt_path=tmp_path / "stop.ckpt").seen, whole[12:])


@every_datamodule
def test_validation_does_not_move_training(make, tmp_path):
    without = fit(make(), tmp_path)
    validate = {"limit_val_batches": None, "val_check_interval": 4, "num_sanity_val_steps": 2}
    with_validation = fit(make(), tmp_path, **validate)
    assert equal(with_validation.seen, without.seen)
    validated = with_validation.validated
    assert len(validated) == 2 + 3 * 3
    assert equal(validated[2:5], validated[5:8])


@every_datamodule
def test_calibration_does_not_move_training(make):
    datamodule = make()
    expected = list(islice(iter(make().train_dataloader()), 3))
    batches = iter(datamodule.train_dataloader())
    first = datamodule.calibration_sample(100)
    got = [next(batches), next(batches)]
    assert torch.equal(datamodule.calibration_sample(100), first)
    assert equal([*got, next(batches)], expected)
    assert first.shape == (100, datamodule.d_in)
    assert first.dtype == torch.float32
    assert torch.equal(at_rank(make(), 1, 2).calibration_sample(100), first)


@every_datamodule
def test_the_global_random_state_is_left_alone(make):
    datamodule = make()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    next(iter(datamodule.train_dataloader()))
    next(iter(datamodule.val_dataloader()))
    datamodule.calibration_sample(70)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(next(iter(datamodule.train_dataloader())), next(iter(make().train_dataloader())))


@every_datamodule
def test_seed_decides_the_training_batches(make):
    assert not torch.equal(next(iter(make(seed=0).train_dataloader())), next(iter(make(seed=1).train_dataloader())))


@every_one_that_holds_out
def test_no_held_out_row_is_trained_on(make):
    train = torch.cat(list(make().train_dataloader())).unique(dim=0)
    val = torch.cat(list(make().val_dataloader())).unique(dim=0)
    both = torch.cat([train, val])
    # the first words of a document may be the same in both parts
    assert len(both.unique(dim=0)) > 0.9 * len(train) + 0.5 * len(val)


def at_rank(datamodule, rank, world_size):
    device = torch.device("cpu")
    datamodule.trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, strategy=SimpleNamespace(root_device=device), ckpt_path=None
    )
    return datamodule


@every_one_that_holds_out
def test_ranks_share_the_work(make):
    ranks = [at_rank(make(), rank, 2) for rank in range(2)]
    for datamodule in ranks:
        datamodule.setup("fit")
    assert [len(datamodule.train_dataloader()) for datamodule in ranks] == [6, 6]
    assert [len(datamodule.val_dataloader()) for datamodule in ranks] == [1, 1]
    first, second = (torch.cat(list(datamodule.train_dataloader())) for datamodule in ranks)
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    first, second = (next(iter(datamodule.val_dataloader())) for datamodule in ranks)
    assert not torch.equal(first, second)


@every_datamodule
def test_each_rank_takes_its_own_state(make, monkeypatch):
    writers = [at_rank(make(), rank, 2) for rank in range(2)]
    loaders = [iter(datamodule.train_dataloader()) for datamodule in writers]
    for loader in loaders:
        next(loader)
    state = {"ranks": [datamodule.state_dict()["ranks"][rank] for rank, datamodule in enumerate(writers)]}
    state = deepcopy(state)  # as in a file: the buffers in it go on being used
    after = [next(loader) for loader in loaders]
    for rank, batch in enumerate(after):
        reader = at_rank(make(), rank, 2)
        reader.load_state_dict(state)
        assert torch.equal(next(iter(reader.train_dataloader())), batch)
    alone = make()
    alone.load_state_dict(state)
    assert torch.equal(next(iter(alone.train_dataloader())), torch.cat(after))
    four = at_rank(make(), 0, 4)
    four.load_state_dict(state)
    with pytest.raises(ValueError, match="written by 2 processes.*resume with a number that divides 2"):
        four.train_dataloader()


@every_datamodule
def test_state_loads_with_weights_only(make, tmp_path):
    datamodule = make()
    next(iter(datamodule.train_dataloader()))
    torch.save(datamodule.state_dict(), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)


@every_one_that_holds_out
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        (
            {"train_samples": 63},
            "train_samples=63: expected a whole number, 64 or more, a batch at least, batch_size=64",
        ),
        ({"val_samples": 63}, "val_samples=63"),
    ],
)
def test_wrong_sizes(make, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 2), (1, 2)])
def test_true_codes_are_those_of_the_validation_batches(rank, world_size):
    datamodule = at_rank(synthetic(val_samples=6 * BATCH), rank, world_size)
    batches = list(datamodule.val_dataloader())
    assert len(batches) == 6 // world_size
    codes = islice(datamodule.val_codes(), len(batches))
    assert equal([datamodule.source.decode(code) for code in codes], batches)
    every_rank = [x for x, _ in islice(datamodule.held_out(), 6)]
    assert equal(every_rank[rank::world_size], batches)


@language_model
def test_ranks_together_read_what_one_reads(make):
    def read(datamodule, n):
        seen = []
        capture = datamodule.source.capture
        datamodule.source.capture = lambda inputs: seen.append(inputs.input_ids.tolist()) or capture(inputs)
        stream = datamodule.train_stream()
        while len(seen) < n:
            next(stream)
        return seen[:n]

    ranks = [read(at_rank(make(), rank, 2), 5) for rank in range(2)]  # block by block, with the same forwards
    assert [block for pair in zip(*ranks, strict=True) for block in pair] == read(make(), 10)


@language_model
@pytest.mark.parametrize(("buffer_samples", "least"), [(400, 3 * BATCH // 2), (1600, 160)])
def test_training_starts_on_a_partly_filled_buffer_that_grows(make, buffer_samples, least):
    stream = make(buffer_samples=buffer_samples).train_stream()
    served_from = []
    for _ in range(40):
        next(stream)
        served_from.append(stream.buffer.filled + BATCH)
    for i, n in enumerate(served_from):  # a forward makes up to 64
        wanted = least + i * BATCH
        assert min(wanted, buffer_samples - 63) <= n < wanted + 64
        assert n <= buffer_samples


@every_datamodule
def test_prepared_batches_are_the_same(make):
    as_they_come, prepared = make(), make()
    batches = list(as_they_come.train_dataloader())
    for i, batch in enumerate(prepared.train_dataloader()):
        assert torch.equal(batch, batches[i])
        prepared.prepare_batch()
        state = prepared.state_dict()
        prepared.prepare_batch()
        assert str(prepared.state_dict()) == str(state)


@language_model
def test_not_finite_activations_are_reported_with_their_place(make, monkeypatch):
    datamodule = make(buffer_samples=400)
    stream = datamodule.train_stream()
    for _ in range(9):
        next(stream)
    forward = datamodule.source._forward_to_hooks
    number = stream.rows.next_row

    def broken(inputs):
        activations = forward(inputs)[""].clone()
        activations[2, 5, 3] = torch.inf
        return {"": activations}

    monkeypatch.setattr(datamodule.source, "_forward_to_hooks", broken)
    rows = stream.rows.peek(4)
    before = stream.rows.state_dict()["rows"]
    with pytest.raises(ValueError, match="1 of 1024 activations are not finite") as error:
        stream.prepare()
    text = datamodule.packing.tokenizer.decode(rows[2, :6])
    assert f"row {number + 2} of packed text, token 5, at the end of {text!r}" in str(error.value)
    assert torch.equal(stream.rows.state_dict()["rows"], before)


@language_model
def test_training_sees_each_valid_token_as_often_as_another(make):
    datamodule = make(train_samples=4000)
    batches = torch.cat(list(datamodule.train_dataloader()))
    (stream,) = datamodule._train_stream.readers.values()
    bos = datamodule.source.capture(next(iter(datamodule.validation_inputs())))[0][0, 0]
    assert not (batches == bos).all(1).any()
    assert stream.rows.passes >= 1  # the text was read again, no error


@language_model
def test_validation_inputs(make):
    datamodule = make(loss_samples=100)
    inputs = list(datamodule.validation_inputs())
    n_valid = sum(int(part.mask.sum()) for part in inputs)
    assert 100 <= n_valid < 100 + 16
    assert all(part.input_ids.shape == part.mask.shape for part in inputs)
    assert not any(part.mask[:, 0].any() for part in inputs)
    val = torch.cat(list(datamodule.val_dataloader()))
    activations, mask = datamodule.source.capture(inputs[0])
    n = int(mask.sum())
    torch.testing.assert_close(activations[mask], val[:n])
    ranks = [at_rank(make(loss_samples=100), rank, 2) for rank in range(2)]
    assert not torch.equal(*(next(iter(datamodule.validation_inputs())).input_ids for datamodule in ranks))


@language_model
def test_held_out_rows_are_as_many_as_requested_or_all(make):
    few, everything = make().heldout_rows(100), make().heldout_rows(10**9)
    assert 100 <= few.mask.sum() < 100 + 16
    assert torch.equal(everything.input_ids[: len(few.input_ids)], few.input_ids)
    assert len(everything.input_ids) > len(few.input_ids)
    assert torch.equal(at_rank(make(), 1, 2).heldout_rows(100).input_ids, few.input_ids)


@language_model
def test_held_out_text_is_tokenised_once(make, monkeypatch):
    datamodule = make()
    datamodule.setup("fit")
    monkeypatch.setattr(datamodule.packing, "tokenise", None)
    assert len(list(datamodule.val_dataloader())) == 3
    assert list(datamodule.validation_inputs())


@language_model
def test_short_texts(make, tmp_path):
    short = tiny.save_text(tmp_path / "short.jsonl", 3)
    enough = tiny.save_text(tmp_path / "enough.jsonl", 60)
    with pytest.raises(ValueError, match=r"training text: \d+ valid tokens, fewer than one batch"):
        make(text=FileText(short, heldout=enough)).setup("fit")
    with pytest.raises(ValueError, match=r"held-out text: \d+ valid tokens, fewer than one batch"):
        make(text=FileText(enough, heldout=short)).setup("fit")
    datamodule = make(text=FileText(enough, heldout=tiny.save_text(tmp_path / "few.jsonl", 8)))
    datamodule.setup("fit")
    assert 1 <= len(datamodule.val_dataloader()) < 3  # what there is, once
    assert len(list(datamodule.val_dataloader())) == len(datamodule.val_dataloader())
    missing = tiny.save_text(tmp_path / "body.jsonl", 60, column="body")
    with pytest.raises(ValueError, match="set column to one of: body"):
        make(text=FileText(missing)).setup("fit")


@language_model
def test_wrong_arguments(make):
    with pytest.raises(ValueError, match="buffer_samples=100: expected at least 128"):
        make(buffer_samples=100)
    with pytest.raises(ValueError, match="context_length=65: .* reads at most 64 tokens"):
        make(context_length=65, buffer_samples=1000)
    with pytest.raises(ValueError, match="llm_batch_size=0"):
        make(llm_batch_size=0)


@language_model
def test_number_format_of_the_buffer(make):
    datamodule = make(buffer_dtype="bfloat16")
    batch = next(iter(datamodule.train_dataloader()))
    assert batch.dtype == torch.float32
    assert torch.equal(batch, batch.bfloat16().float())
