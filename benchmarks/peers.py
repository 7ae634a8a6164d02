"""One optimizer step of SAE training, ours and other libraries', from the same weights on the same batches in memory.

All of them start with unit decoder rows, the encoder equal to the decoder transposed, and zero biases unless the kind
says otherwise. Activations have E||x||^2 = 1. The learning rate is so small that the number of active latents stays
where it started.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

LR = 1e-6
L0 = 64  # about the active latents of a sample when `relu` and `jumprelu` start
DEAD_SHARE = 0.1  # share of the latents that are dead in the kinds in which AuxK has work
NEVER_FIRES = -1.0  # an encoder bias that no activation overcomes: pre-activations are 0.05 to 0.2 wide


@dataclass(frozen=True)
class Case:
    """Sizes of an SAE and its batch."""

    d_in: int
    d_sae: int
    k: int
    batch: int = 4096


CASES = {
    "a": Case(512, 8192, 32),
    "b": Case(768, 24576, 32),
    "c": Case(100, 3200, 20),
    "d": Case(512, 8192, 32),
    "e": Case(2304, 73728, 160),
    "tiny": Case(64, 512, 8, 256),
}


def case_of(name: str) -> Case:
    """Return a case by its name, or one of these sizes.

    >>> case_of("256x4096x32x1024")
    Case(d_in=256, d_sae=4096, k=32, batch=1024)
    """
    return CASES[name] if name in CASES else Case(*map(int, name.split("x")))


DENSE_KINDS = ("relu", "jumprelu", "relu_start")  # the weights decide how many latents are active
KINDS = ("topk", "batchtopk", "topk_aux", "batchtopk_aux", *DENSE_KINDS, "panel")


@dataclass(frozen=True)
class Task:
    """What one worker measures.

    Args:
        case: a key of CASES, or sizes, see `case_of`.
        kind: one of KINDS.
        impl: one of IMPLS; with `+settings` a peer gets the process settings of ours.
        device: `cpu` or `cuda`.
        folder: folder for files that the impl writes.
        lr: learning rate.
        members: SAEs of `ours` that are trained side by side, on the same batches.
    """

    case: str
    kind: str
    impl: str
    device: str = "cpu"
    folder: str = "."
    lr: float = LR
    members: int = 1

    @property
    def where(self) -> str:
        """Name of the group that is compared, for messages."""
        return f"case {self.case}, {self.kind}"

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that are imported before memory at rest is measured."""
        return MODULES.get(library(self.impl), ())

    @property
    def size(self) -> Case:
        """Sizes of the case."""
        return case_of(self.case)

    @property
    def variant(self) -> str:
        """Kind of SAE: topk, batchtopk, relu or jumprelu."""
        return "topk" if self.kind == "panel" else self.kind.removesuffix("_aux").removesuffix("_start")

    @property
    def aux(self) -> bool:
        """Whether a tenth of the latents is dead, so that AuxK has work."""
        return self.kind.endswith("_aux")

    @property
    def dead(self) -> slice:
        """The dead latents, where AuxK has work."""
        return slice(0, int(DEAD_SHARE * self.size.d_sae) if self.aux else 0)

    @property
    def name(self) -> str:
        """The impl without `+settings`."""
        return self.impl.removesuffix("+settings")

    @property
    def settings(self) -> bool:
        """Whether the process gets the settings that `sae fit` makes."""
        return self.impl.endswith("+settings") or self.impl.startswith("ours") or self.impl == "floor"


def batches(task: Task, n: int = 4) -> list[Tensor]:
    """Return n batches [batch, d_in] of activations in float32, with E||x||^2 about 1.

    Each row is a sparse non-negative combination of random unit directions, with a little noise.
    """
    size, generator = task.size, torch.Generator().manual_seed(1)
    active = 16
    directions = normalize(torch.randn(4 * size.d_in, size.d_in, generator=generator), dim=1)
    result = []
    for _ in range(n):
        chosen = torch.randint(len(directions), (size.batch, active), generator=generator)
        weights = torch.empty(size.batch, active).exponential_(generator=generator)
        x = embedding_bag(chosen, directions, mode="sum", per_sample_weights=weights)
        x.div_(x.square().sum(1).mean().sqrt())
        x.add_(torch.randn(x.shape, generator=generator), alpha=0.1 * size.d_in**-0.5)
        result.append(x.to(task.device))
    return result


class Weights(NamedTuple):
    """Weights that every impl starts from; W_enc is W_dec transposed, b_dec is zero."""

    W_dec: Tensor
    b_enc: Tensor
    threshold: float


def weights(task: Task, x: Tensor) -> Weights:
    """Make the weights that a task starts from, the same in every process.

    With them relu and jumprelu have about L0 active latents.
    """
    size = task.size
    W_dec = normalize(torch.randn(size.d_sae, size.d_in, generator=torch.Generator().manual_seed(0)), dim=1)
    b_enc, threshold = torch.zeros(size.d_sae), 0.0
    if task.kind in ("relu", "jumprelu"):
        rows = x[:64].cpu().double()  # double: the same cut whatever library multiplies
        cut = (rows @ W_dec.double().T).flatten().topk(L0 * len(rows) + 1).values[-2:].mean().item()
        b_enc, threshold = (b_enc - cut, 0.0) if task.kind == "relu" else (b_enc, cut)
    b_enc[task.dead] = NEVER_FIRES
    return Weights(W_dec, b_enc, threshold)


@torch.no_grad()
def load(start: Weights, W_enc: Tensor, W_dec: Tensor, b_enc: Tensor, threshold: Tensor | None = None) -> None:
    """Copy the start into parameters of shapes [d_in, d_sae], [d_sae, d_in], [d_sae] and [d_sae]."""
    W_enc.copy_(start.W_dec.T)
    W_dec.copy_(start.W_dec)
    b_enc.copy_(start.b_enc)
    if threshold is not None:
        threshold.fill_(start.threshold)


class Begin(NamedTuple):
    """Loss and l0 before the first step, on which impls must agree before they are timed.

    Args:
        loss: squared reconstruction error, summed over dimensions, mean over samples.
        l0: active latents a sample.
    """

    loss: float
    l0: float


class Impl(Protocol):
    """A way to train an SAE."""

    def begin(self, x: Tensor) -> Begin:
        """Return loss and l0 of a batch; called under no_grad, before the first step."""

    def step(self, x: Tensor) -> None:
        """Take one optimizer step."""


def our_sae(task: Task, start: Weights) -> Any:
    """Make one of our SAEs; the kind says whether AuxK has work."""
    from sae_lightning import saes

    kwargs: dict[str, Any] = {"d_sae": task.size.d_sae, "dead_after_samples": 10**9, "b_dec_init": saes.Zero()}
    if task.variant in ("topk", "batchtopk"):
        kwargs["k"] = task.size.k
    if task.variant == "jumprelu":
        kwargs["scale_input"] = False  # E||x||^2 is 1 already
    names = {"topk": "TopK", "batchtopk": "BatchTopK", "relu": "ReLU", "jumprelu": "JumpReLU"}
    sae = getattr(saes, names[task.variant])(task.size.d_in, **kwargs)
    load(start, sae.W_enc, sae.W_dec, sae.b_enc, sae.threshold if task.variant == "jumprelu" else None)
    for name, buffer in sae.named_buffers():
        if name == "W_dec_start":
            buffer.copy_(start.W_dec)
    sae.samples_since_fired[task.dead] = sae.dead_after_samples
    return sae


def our_begin(sae: Any, x: Tensor) -> Begin:
    """Return loss and l0 of one of our SAEs on a batch."""
    losses = sae.train().losses(x, 0)
    return Begin(float(losses["mse"]), float(losses["l0"]))


def slow_down(optimizer: torch.optim.Optimizer, lr: float = LR) -> torch.optim.Optimizer:
    """Set the learning rate that all impls share, and return the optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    return optimizer


class OursBare:
    """Our step in a plain loop: its cost without Lightning."""

    def __init__(self, task: Task, start: Weights) -> None:
        self.sae = our_sae(task, start).to(task.device).train()
        self.optimizer, self.n_steps = slow_down(self.sae.configure_optimizers(), task.lr), 0

    def begin(self, x: Tensor) -> Begin:
        """Return loss and l0."""
        return our_begin(self.sae, x)

    def step(self, x: Tensor) -> None:
        """Take a step, in the order of Lightning's hooks."""
        self.sae.losses(x, self.n_steps)["loss"].backward()
        self.sae.on_before_optimizer_step(self.optimizer)
        self.sae.configure_gradient_clipping(self.optimizer, 1.0, "norm")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.sae.constrain()
        self.n_steps += 1


class SAELens:
    """SAELens, by the step of its trainer.

    It clips gradients, counts firings and selects by latent times decoder norm, and does not keep unit norm. AuxK
    (weight 1) works on raw pre-activations. `relu` is its "standard" SAE.
    """

    def __init__(self, task: Task, start: Weights) -> None:
        import sae_lens
        from sae_lens.config import SAETrainerConfig
        from sae_lens.saes.sae import TrainStepInput
        from sae_lens.training.sae_trainer import SAETrainer

        size = task.size
        name = {"topk": "TopK", "batchtopk": "BatchTopK", "relu": "Standard", "jumprelu": "JumpReLU"}[task.variant]
        kwargs: dict[str, Any] = {"k": size.k} if task.variant in ("topk", "batchtopk") else {}
        config = getattr(sae_lens, f"{name}TrainingSAEConfig")(
            d_in=size.d_in, d_sae=size.d_sae, device=task.device, dtype="float32", **kwargs
        )
        self.sae = getattr(sae_lens, f"{name}TrainingSAE")(config)
        threshold = self.sae.threshold if task.variant == "jumprelu" else None
        load(start, self.sae.W_enc, self.sae.W_dec, self.sae.b_enc, threshold)
        self.trainer: Any = SAETrainer(
            SAETrainerConfig(10**12, size.batch, lr=task.lr, lr_end=task.lr, device=task.device), self.sae, iter([])
        )
        self.trainer.n_forward_passes_since_fired[task.dead] = 1e9
        self.step_input = TrainStepInput

    def begin(self, x: Tensor) -> Begin:
        """Return loss and l0; its mse is summed over dimensions and averaged over samples, as ours is."""
        step_input = self.step_input(
            sae_in=x,
            coefficients=self.trainer.get_coefficients(),
            dead_neuron_mask=None,
            n_training_steps=0,
            is_logging_step=False,
        )
        out = self.sae.training_forward_pass(step_input)
        return Begin(out.losses["mse_loss"].item(), out.feature_acts.count_nonzero().item() / len(x))

    def step(self, x: Tensor) -> None:
        """Take the step that its `fit` takes with a batch, and count it, which `train_step` leaves to its caller."""
        self.trainer.step(x)
        self.trainer.n_training_steps += 1


class Sparsify:
    """The sparse coder of sparsify, driven as its trainer does, whose step includes the language model.

    It has TopK only. Its loss is divided by the variance of the batch. It does not clip gradients. AuxK (off as
    shipped, 1/32 here) works on latents after relu. On a GPU its forward always runs in bfloat16. `sparsify_signum` has
    the optimizer that the library ships with.
    """

    def __init__(self, task: Task, start: Weights) -> None:
        from sparsify import SparseCoder, SparseCoderConfig

        size = task.size
        self.coder = SparseCoder(size.d_in, SparseCoderConfig(num_latents=size.d_sae, k=size.k), task.device)
        load(start, self.coder.encoder.weight.T, self.coder.W_dec, self.coder.encoder.bias)
        if task.name == "sparsify_signum":
            from schedulefree import ScheduleFreeWrapper
            from sparsify.sign_sgd import SignSGD

            self.optimizer = ScheduleFreeWrapper(SignSGD(self.coder.parameters(), lr=task.lr), momentum=0.95)
            self.optimizer.train()
        else:
            self.optimizer = torch.optim.Adam(self.coder.parameters(), lr=task.lr)
        self.since_fired = torch.zeros(size.d_sae, dtype=torch.long, device=task.device)
        self.since_fired[task.dead] = 10**12
        self.did_fire = torch.zeros(size.d_sae, dtype=torch.bool, device=task.device)
        if not task.settings:
            torch.set_float32_matmul_precision("high")  # as its trainer does

    def begin(self, x: Tensor) -> Begin:
        """Return loss and l0; its loss is multiplied by the variance that it was divided by."""
        variance = (x - x.mean(0)).pow(2).sum()
        out = self.coder(x, x, total_variance=variance)
        return Begin((out.fvu * variance).item() / len(x), out.latent_acts.count_nonzero().item() / len(x))

    def step(self, x: Tensor) -> None:
        """Run the lines of its `Trainer.fit` that concern one sparse coder, with its logging of two numbers."""
        self.coder.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(0)).pow(2).sum()
        out = self.coder(x, x, dead_mask=self.since_fired > 10_000_000, total_variance=variance)
        self.did_fire[out.latent_indices.flatten()] = True
        float(out.fvu.detach()), float(out.auxk_loss.detach())
        (out.fvu + out.auxk_loss / 32).backward()
        self.coder.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.since_fired += len(x)
        self.since_fired[self.did_fire] = 0
        self.did_fire.zero_()


class DictionaryLearning:
    """dictionary_learning, by the update of its trainer.

    It clips gradients (not for relu), projects them, keeps unit norm and counts firings (not for relu). Steps are
    numbered from 2000, since its running threshold starts at 1000. AuxK (1/32, divided by the variance of the residual)
    works on latents after relu, which are mostly zero for dead ones.
    """

    def __init__(self, task: Task, start: Weights) -> None:
        from dictionary_learning import trainers

        size = task.size
        kwargs: dict[str, Any] = {"k": size.k} if task.variant in ("topk", "batchtopk") else {}
        name = {"topk": "TopK", "batchtopk": "BatchTopK", "relu": "Standard", "jumprelu": "JumpRelu"}[task.variant]
        self.trainer = getattr(trainers, f"{name}Trainer")(
            steps=10**9,
            activation_dim=size.d_in,
            dict_size=size.d_sae,
            layer=0,
            lm_name="none",
            lr=task.lr,
            device=task.device,
            **kwargs,
        )
        ae = self.trainer.ae
        if task.variant == "jumprelu":
            load(start, ae.W_enc, ae.W_dec, ae.b_enc, ae.threshold)
        else:
            load(start, ae.encoder.weight.T, ae.decoder.weight.T, ae.encoder.bias)
        if task.variant != "relu":
            self.trainer.num_tokens_since_fired[task.dead] = 10**12
        self.n_steps = 2000

    def begin(self, x: Tensor) -> Begin:
        """Return loss and l0; its l2_loss is the sum of squares, which for relu is called mse_loss."""
        log = self.trainer.loss(x, step=self.n_steps, logging=True)
        loss = log.losses.get("mse_loss", log.losses["l2_loss"])
        return Begin(loss, log.f.count_nonzero().item() / len(x))

    def step(self, x: Tensor) -> None:
        """Call its update."""
        self.trainer.update(self.n_steps, x)
        self.n_steps += 1


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        above = (pre > threshold).to(pre.dtype)
        return pre * above, above

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_above: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        window = ((pre - threshold).abs() < ctx.bandwidth / 2).to(pre.dtype) / ctx.bandwidth
        return grad * (pre > threshold), -(window * (grad * threshold + grad_above)).sum(0), None


class Dense:
    """Dense PyTorch as a user would write it: the least that trains, without clipping, unit norm and firing counts."""

    def __init__(self, task: Task, start: Weights) -> None:
        size = task.size
        shapes = {"W_enc": (size.d_in, size.d_sae), "W_dec": (size.d_sae, size.d_in), "b_enc": (size.d_sae,)}
        self.p = {name: torch.empty(shape, device=task.device) for name, shape in shapes.items()}
        self.p["b_dec"] = torch.zeros(size.d_in, device=task.device)
        if task.variant == "jumprelu":
            self.p["threshold"] = torch.empty(size.d_sae, device=task.device)
        load(start, self.p["W_enc"], self.p["W_dec"], self.p["b_enc"], self.p.get("threshold"))
        parameters = [tensor.requires_grad_() for tensor in self.p.values()]
        self.optimizer = torch.optim.Adam(parameters, lr=task.lr, fused=True if task.settings else None)
        self.variant, self.k, self.dead = task.variant, size.k, task.dead if task.aux else None

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, its reconstruction part, and dense latents [batch, d_sae]."""
        W_enc, W_dec, b_enc, b_dec = (self.p[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec"))
        pre, extra = torch.addmm(b_enc, x - b_dec, W_enc), x.new_zeros(())
        if self.variant == "topk":
            values, chosen = pre.topk(self.k, dim=1, sorted=False)
            z = torch.zeros_like(pre).scatter(1, chosen, values.relu())
        elif self.variant == "batchtopk":
            values, chosen = pre.flatten().topk(self.k * len(x), sorted=False)
            z = torch.zeros_like(pre).flatten().scatter(0, chosen, values.relu()).view_as(pre)
        elif self.variant == "relu":
            z = pre.relu()
            extra = 0.01 * z.sum(1).mean()
        else:
            z, above = _Jump.apply(pre, self.p["threshold"], 0.001)
            extra = 1e-3 * above.sum(1).mean()
        error = torch.addmm(b_dec, z, W_dec) - x
        if self.dead is not None:  # AuxK on the dead columns alone
            values, chosen = pre[:, self.dead].topk(min(x.shape[1] // 2, self.dead.stop), dim=1, sorted=False)
            z_dead = x.new_zeros(len(x), self.dead.stop).scatter(1, chosen, values)
            extra = (error.detach() + z_dead @ W_dec[self.dead]).square().sum(1).mean() / 32
        mse = error.square().sum(1).mean()
        return mse + extra, mse, z

    def begin(self, x: Tensor) -> Begin:
        """Return loss and l0."""
        _, mse, z = self.losses(x)
        return Begin(mse.item(), z.count_nonzero().item() / len(x))

    def step(self, x: Tensor) -> None:
        """Run forward, backward and Adam."""
        loss = self.losses(x)[0]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Floor:
    """What every exact step of ours needs, without training: the encode product and a fused Adam step."""

    def __init__(self, task: Task, start: Weights) -> None:
        rows = min(512, task.size.batch)
        self.W, self.b = start.W_dec.to(task.device).T, start.b_enc.to(task.device)
        self.out = torch.empty(rows, task.size.d_sae, device=task.device)
        self.parameters = [torch.zeros_like(start.W_dec, device=task.device) for _ in range(2)]
        for parameter in self.parameters:
            parameter.grad = torch.ones_like(parameter)
        self.optimizer = torch.optim.Adam(self.parameters, lr=LR, fused=True)

    def begin(self, x: Tensor) -> Begin:
        """Return nan: there is nothing to compare."""
        return Begin(float("nan"), float("nan"))

    def step(self, x: Tensor) -> None:
        """Multiply the batch chunk by chunk in the same memory, then take an Adam step."""
        with torch.profiler.record_function("sae::encode"):
            for chunk in x.split(len(self.out)):
                torch.mm(chunk, self.W, out=self.out[: len(chunk)]).add_(self.b)
        with torch.profiler.record_function("sae::optimizer"):
            self.optimizer.step()


CLASSES: dict[str, type[Any]] = {
    "ours_bare": OursBare,
    "saelens": SAELens,
    "sparsify": Sparsify,
    "sparsify_signum": Sparsify,
    "dictionary_learning": DictionaryLearning,
    "dense": Dense,
    "floor": Floor,
}
MODULES = {  # imported before memory at rest is measured
    "ours": ("lightning.pytorch", "sae_lightning.panel", "sae_lightning.callbacks"),
    "saelens": ("sae_lens", "sae_lens.training.sae_trainer"),
    "sparsify": ("sparsify", "schedulefree"),
    "dictionary_learning": ("dictionary_learning", "dictionary_learning.trainers"),
}
PEERS = {"saelens": "sae-lens", "sparsify": "eai-sparsify", "dictionary_learning": "dictionary-learning"}
IN_LIGHTNING = ("ours", "ours_bf16", "ours_lone")
IMPLS = (
    *("ours", "ours_bare", "ours_bf16"),
    *(name + plus for name in CLASSES if name not in ("ours_bare", "floor") for plus in ("", "+settings")),
)


def library(impl: str) -> str:
    """Return the library behind an impl: a key of MODULES, or `dense` or `floor`."""
    return impl.split("+")[0].removesuffix("_signum") if not impl.startswith("ours") else "ours"


def supports(impl: str, kind: str) -> bool:
    """Return whether an impl has a kind."""
    if kind == "panel":
        return impl == "ours"
    if impl.startswith("sparsify"):
        return kind == "topk" or (kind == "topk_aux" and library(impl) == impl.split("+")[0])
    return True
