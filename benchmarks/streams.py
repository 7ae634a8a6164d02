"""Streams of a language model's activations, ours and other libraries', and what their workers do.

All of them share the model, the hook, the rows of text and their order, and the sizes of the buffer and of a batch.
Special tokens are left out. Ours reads and tokenises text. The others get rows of tokens that were made beforehand,
which favours them, except for dictionary_learning, whose buffer reads and tokenises text.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.corpus import Corpus, Model, load_rows
from benchmarks.peers import Begin, Case, Task
from benchmarks.turns import StopStepsError, Turns, resident_mb
from benchmarks.worker import run_trainer

FORWARD = "forward"
LR = 1e-3
KINDS = ("stream", "train", "shuffle")
FIRST, STEADY = 4, 16  # batches over which the mixing of contexts is averaged


@dataclass(frozen=True)
class StreamTask(Task):
    """What one worker measures.

    Args:
        case, kind, impl, device, folder, lr: as in `Task`, with KINDS and IMPLS of this module.
        corpus: files of the model and its text.
        reading: how the model is read.
        sae: sizes of the SAE and its batch.
        dtype: dtype of the model.
    """

    corpus: Corpus = Corpus("", "", "", "", ())
    reading: Model = Model(0, 0, 0, 0, "", 0, 0, 0, 0)
    sae: Case = Case(0, 0, 0)
    dtype: str = "float32"

    @property
    def where(self) -> str:
        """Name of the group that is compared, for messages."""
        return f"{self.kind}, {self.dtype} model"

    @property
    def size(self) -> Case:
        """Sizes of the SAE and its batch."""
        return self.sae

    @property
    def variant(self) -> str:
        """Kind of SAE."""
        return "topk"

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that are imported before memory at rest is measured."""
        return ("transformers", *super().modules, *MODULES.get(self.name, ()))

    @property
    def refill(self) -> int:
        """Batches from one refill of the buffer to the next; the steps of a turn are a multiple of it."""
        half = self.reading.buffer_samples // 2 // self.sae.batch
        return {"saelens": half, "dictionary_learning": half + 1}.get(self.name, 1)


class Start(NamedTuple):
    """What a worker reports before its first turn.

    Args:
        loaded_mb: MiB in use when the model and its tokenizer are loaded.
        first_batch_s: seconds from then to the first batch of activations.
        d_in: width of an activation.
        norm: median over the first batch of ||x||^2.
        fvu: fraction of variance unexplained before the first step, nan where nothing is trained.
        l0: active latents a sample, likewise.
    """

    loaded_mb: float
    first_batch_s: float
    d_in: int
    norm: float
    fvu: float
    l0: float


class Stream(Protocol):
    """A way from text to batches. Its constructor loads the model.

    Attributes:
        model: the language model.
    """

    model: nn.Module

    def batches(self) -> Iterator[Tensor]:
        """Return an endless iterator over batches [batch, d_in] of activations."""


def load_peer_model(task: StreamTask, head: bool = True) -> Any:
    """Load the model in its dtype, on the device."""
    import transformers

    loader = transformers.AutoModelForCausalLM if head else transformers.AutoModel
    model = loader.from_pretrained(task.corpus.model).to(getattr(torch, task.dtype)).to(task.device)
    return model.eval().requires_grad_(False)


def load_peer_tokenizer(task: StreamTask) -> Any:
    """Load the tokenizer, with a padding token."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(task.corpus.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


class StopForwardError(Exception):
    """Raised at the hook to stop the forward."""


@torch.inference_mode()
def activations(model: nn.Module, hook: str, ids: Tensor) -> Tensor:
    """Return the activations [batch, seq, d_in] at the hook, where the forward stops.

    Raises:
        ValueError: if the model does not run the submodule `hook`.
    """
    captured: list[Tensor] = []

    def keep_and_stop(module: nn.Module, args: Any, output: Any) -> None:
        captured.append(output[0] if isinstance(output, tuple) else output)
        raise StopForwardError

    handle = model.get_submodule(hook).register_forward_hook(keep_and_stop)
    try:
        model(ids, use_cache=False)
    except StopForwardError:
        return captured[0]
    finally:
        handle.remove()
    raise ValueError(f"--hook {hook}: the model did not run this submodule")


def width(task: StreamTask, model: nn.Module, rows: Tensor) -> int:
    """Return d_in of the activations, from a forward of two tokens, as our datamodule does."""
    return activations(model, task.corpus.hook, rows[:1, :2].to(task.device)).shape[-1]


class Forward:
    """What every stream needs, without a stream: the model up to the hook, on rows in memory."""

    def __init__(self, task: StreamTask) -> None:
        self.task, self.model, self.rows = task, load_peer_model(task), load_rows(task.corpus)
        width(task, self.model, self.rows)  # the first forward, which the other streams have run by now as well

    def batches(self) -> Iterator[Tensor]:
        """Yield the activations of one forward after the other, those of special tokens included."""
        for ids in cycle(self.rows.split(self.task.reading.llm_batch_size)):
            yield activations(self.model, self.task.corpus.hook, ids.to(self.task.device)).flatten(0, 1)


class Ours:
    """The datamodule of `sae fit`: FileText, tokenizer, packing, model and buffer."""

    def __init__(self, task: StreamTask) -> None:
        from sae_lightning.datamodules import FileText, LanguageModelDataModule

        reading = task.reading
        self.data = LanguageModelDataModule(
            task.corpus.model,
            task.corpus.hook,
            FileText(task.corpus.text),
            dtype=task.dtype,  # type: ignore[arg-type]
            context_length=reading.context_length,
            batch_size=task.size.batch,
            train_samples=10**12,
            val_samples=reading.buffer_samples,
            loss_samples=reading.buffer_samples // 4,
            buffer_samples=reading.buffer_samples,
            llm_batch_size=reading.llm_batch_size,
        )
        self.data.source.to(task.device)
        self.model = self.data.source.model

    def batches(self) -> Iterator[Tensor]:
        """Return the batches that a Trainer would fetch."""
        self.data.setup("fit")
        return iter(self.data.train_dataloader())


class SAELens:
    """SAELens: ActivationsStore over HookedProxyLM, which stops at the hook; rows come from a `datasets.Dataset`.

    When the mixing buffer is full it serves one half, and then the model fills it up again.
    """

    def __init__(self, task: StreamTask) -> None:
        from datasets import Dataset
        from sae_lens.load_model import HookedProxyLM

        self.task, self.model = task, load_peer_model(task)
        self.tokenizer, self.proxy = load_peer_tokenizer(task), HookedProxyLM
        rows = load_rows(task.corpus)
        self.d_in = width(task, self.model, rows)
        self.dataset = Dataset.from_dict({"tokens": rows.tolist()})

    def batches(self) -> Iterator[Tensor]:
        """Return the store, which is an iterator over batches."""
        from sae_lens.training.activations_store import ActivationsStore

        task, reading = self.task, self.task.reading
        return ActivationsStore(
            model=self.proxy(self.model, self.tokenizer, hook_names=[task.corpus.hook]),
            dataset=self.dataset,
            streaming=False,
            hook_name=task.corpus.hook,
            hook_head_index=None,
            context_size=reading.context_length,
            d_in=self.d_in,
            n_batches_in_buffer=reading.buffer_samples // reading.context_length,
            total_training_tokens=10**12,
            store_batch_size_prompts=reading.llm_batch_size,
            train_batch_size_tokens=task.size.batch,
            prepend_bos=False,
            normalize_activations="none",
            device=torch.device(task.device),
            dtype="float32",
            exclude_special_tokens=torch.tensor(task.corpus.special, device=task.device),
        )


class DictionaryLearning:
    """dictionary_learning: ActivationBuffer over nnsight, which stops at the hook.

    The buffer is refilled when less than half is left. It reads text, so the rows are decoded for it. Of the special
    tokens it can leave out only the first of each row.
    """

    def __init__(self, task: StreamTask) -> None:
        from nnsight import LanguageModel

        self.task, self.model, self.tokenizer = task, load_peer_model(task), load_peer_tokenizer(task)
        rows = load_rows(task.corpus)
        self.d_in = width(task, self.model, rows)
        self.texts = self.tokenizer.batch_decode(rows)
        self.traced = LanguageModel(self.model, tokenizer=self.tokenizer)

    def batches(self) -> Iterator[Tensor]:
        """Return the batches of the buffer in float32, the dtype that its trainer needs."""
        from dictionary_learning.buffer import ActivationBuffer

        task, reading = self.task, self.task.reading
        submodule = self.traced
        for name in task.corpus.hook.split("."):
            submodule = submodule[int(name)] if name.isdecimal() else getattr(submodule, name)
        buffer = ActivationBuffer(
            cycle(self.texts),
            self.traced,
            submodule,
            d_submodule=self.d_in,
            n_ctxs=reading.buffer_samples // reading.context_length,
            ctx_len=reading.context_length,
            refresh_batch_size=reading.llm_batch_size,
            out_batch_size=task.size.batch,
            device=task.device,
            remove_bos=self.tokenizer.bos_token_id is not None,
        )
        return (batch.float() for batch in buffer)


STREAMS: dict[str, type[Any]] = {
    FORWARD: Forward,
    "ours": Ours,
    "saelens": SAELens,
    "dictionary_learning": DictionaryLearning,
}
MODULES = {
    "ours": ("sae_lightning.datamodules",),
    "saelens": ("sae_lens.training.activations_store",),
    "dictionary_learning": ("dictionary_learning.buffer",),
}
IMPLS = (
    *("ours", "ours_bf16"),
    *(name + plus for name in ("saelens", "dictionary_learning", "sparsify") for plus in ("", "+settings")),
)


def supports(impl: str, kind: str) -> bool:
    """Return whether an impl has a kind: sparsify has no stream of its own and does not shuffle."""
    if impl.endswith("+settings") and kind == "shuffle":
        return False
    return kind == "train" or not impl.startswith(("sparsify", "ours_bf16"))


class Reader:
    """Counter of the tokens that a language model reads, without special ones."""

    def __init__(self, model: Any, special: tuple[int, ...]) -> None:
        self.special = torch.tensor(special)
        self.forwards: list[Tensor] = []
        model.get_input_embeddings().register_forward_pre_hook(self._read)

    def _read(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.forwards.append(args[0].detach())

    def take(self) -> int:
        """Return the number of tokens since the last call."""
        n_tokens = sum(int(torch.isin(ids, self.special.to(ids.device), invert=True).sum()) for ids in self.forwards)
        self.forwards.clear()
        return n_tokens


def start_peak(cuda: bool) -> float:
    """Return the memory in use in MiB, and start its peak anew where the system can do that (Linux)."""
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_mb()


class StreamTurns(Turns):
    """Turns that also report how many tokens the model has read and how far the training is."""

    def __init__(self, connection: Connection, task: StreamTask, model: nn.Module) -> None:
        super().__init__(connection, task)
        self.reader, self.loaded_mb = Reader(model, task.corpus.special), start_peak(self.cuda)
        self.begin_s = self.now()
        self.probe: Callable[[], Begin] = lambda: Begin(float("nan"), float("nan"))

    def first(self, x: Tensor, probe: Callable[[], Begin] | None = None) -> None:
        """Report the first batch, which has just arrived, and wait for the first turn."""
        seconds = self.now() - self.begin_s
        if not torch.isfinite(x).all():
            raise ValueError("the first batch has activations that are not finite")
        if probe is not None:
            self.probe = probe
        norm = x.float().square().sum(1).median().item()
        with torch.no_grad():
            start = Start(self.loaded_mb, seconds, x.shape[1], norm, *self.probe())
        self.reader.take()
        self.ready(start)

    def answer(self) -> tuple[Any, ...]:
        """Return the seconds of the steps, peak memory, tokens read, and fvu and l0 of the first batch now."""
        with torch.no_grad():
            return (*super().answer(), self.reader.take(), *self.probe())


def fvu(begin: Begin, x: Tensor) -> Begin:
    """Divide the loss, a squared error, by the variance of the batch; l0 stays as it is."""
    return Begin(begin.loss / x.float().var(0, correction=0).sum().item(), begin.l0)


def job(task: StreamTask, connection: Connection) -> None:
    """Stream, or stream and train, until no more steps are wanted."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress bars of libraries
    if task.kind == "shuffle":
        connection.send(mixing(task))
        return
    if task.kind == "train" and task.name in ("ours", "ours_bf16"):
        fit(task, connection)
        return
    if task.name == "sparsify":
        fit_sparsify(task, connection)
        return
    stream: Stream = STREAMS[task.name](task)
    clock = StreamTurns(connection, task, stream.model)
    batches = stream.batches()
    x = next(batches)
    if task.kind == "stream" or task.name == FORWARD:
        clock.first(x)
        while not clock.over:
            next(batches)
            clock.step_done()
        return
    task = replace(task, sae=replace(task.sae, d_in=x.shape[1]))
    first_batch_at = clock.now()
    impl = peers.CLASSES[task.name](task, peers.weights(task, x))
    clock.begin_s += clock.now() - first_batch_at  # building the SAE does not count: others may do it before

    clock.first(x, lambda: fvu(impl.begin(x), x))
    while not clock.over:
        impl.step(next(batches))
        clock.step_done()


def fit(task: StreamTask, connection: Connection) -> None:
    """Train one of our SAEs on our stream, as `sae fit` does."""
    from lightning.pytorch import Callback, LightningModule, Trainer

    stream = Ours(task)
    task = replace(task, sae=replace(task.sae, d_in=stream.data.d_in))
    sae = peers.our_sae(task, peers.weights(task, torch.empty(0)))
    clock = StreamTurns(connection, task, stream.model)

    class Clock(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            peers.slow_down(trainer.optimizers[0], task.lr)

        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, x: Tensor, index: int) -> None:
            def probe() -> Begin:
                with trainer.precision_plugin.forward_context():
                    return fvu(peers.our_begin(pl_module, x), x)

            if not index:
                clock.first(x, probe)

        def on_train_batch_end(self, *args: Any) -> None:
            clock.step_done()
            if clock.over:
                raise StopStepsError

    run_trainer(task, sae, stream.data, Clock())


def fit_sparsify(task: StreamTask, connection: Connection) -> None:
    """Run the whole Trainer of sparsify, with Adam.

    It has no buffer and does not shuffle; it trains the SAE in a hook of the whole model.
    """
    from sparsify import SaeConfig, TrainConfig
    from sparsify import Trainer as SparsifyTrainer

    model, rows = load_peer_model(task, head=False), load_rows(task.corpus)

    class Rows:
        """Endless rows of tokens. The Trainer asks for the first row of a forward when the last step is done."""

        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            if index and index % task.reading.llm_batch_size == 0:
                clock.step_done()
                if clock.over:
                    raise StopStepsError
            return {"input_ids": rows[index % len(rows)]}

    config = TrainConfig(
        SaeConfig(num_latents=task.size.d_sae, k=task.size.k),
        batch_size=task.reading.llm_batch_size,
        optimizer="adam",
        lr=task.lr,
        lr_warmup_steps=0,
        exclude_tokens=list(task.corpus.special),
        hookpoints=[task.corpus.hook.removeprefix(f"{model.base_model_prefix}.")],
        save_every=10**9,
        log_to_wandb=False,
        save_dir=task.folder,
    )
    clock = StreamTurns(connection, task, model)
    trainer = SparsifyTrainer(config, Rows(), model)
    (coder,) = trainer.saes.values()

    def first(module: nn.Module, args: Any, kwargs: dict[str, Tensor]) -> None:
        handle.remove()
        x = kwargs["x"]

        def probe() -> Begin:
            out = coder(x)
            return Begin(out.fvu.item(), out.latent_acts.count_nonzero().item() / len(x))

        clock.first(x, probe)

    handle = coder.register_forward_pre_hook(first, with_kwargs=True)
    trainer.fit()


def mark(module: nn.Module) -> None:
    """Make a module return the number of each row of text, counted from 0, in place of activations."""
    original, n_rows = module.forward, 0

    def marked(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_rows
        output = original(*args, **kwargs)
        tensor, *rest = output if isinstance(output, tuple) else (output,)
        numbers = torch.arange(n_rows, n_rows + len(tensor), dtype=tensor.dtype, device=tensor.device)
        n_rows += len(tensor)
        tensor = numbers.view(-1, 1, 1).expand_as(tensor).contiguous()
        return (tensor, *rest) if isinstance(output, tuple) else tensor

    module.forward = marked


def mixing(task: StreamTask) -> dict[str, float]:
    """Measure how many contexts a batch mixes and the largest share of one, at first and after two buffers."""
    stream: Stream = STREAMS[task.name](task)
    mark(stream.model.get_submodule(task.corpus.hook))
    batches = stream.batches()
    settled = 2 * task.reading.buffer_samples // task.size.batch
    contexts, share = [], []
    for _ in range(settled + STEADY):
        counts = next(batches)[:, 0].long().unique(return_counts=True)[1]
        contexts.append(len(counts))
        share.append(int(counts.max()) / int(counts.sum()))
    return {
        "first_contexts": sum(contexts[:FIRST]) / FIRST,
        "first_share": sum(share[:FIRST]) / FIRST,
        "contexts": sum(contexts[-STEADY:]) / STEADY,
        "share": sum(share[-STEADY:]) / STEADY,
    }
