"""The parts of `benchmarks.gpu` that no other benchmark has: each prints one JSON object a line.

    python -m benchmarks.gpu_parts profile [--case tiny] [--device cpu]

The defaults are the sizes of the published runs on Gemma-2-2B, on a GPU; `--case tiny --device cpu` shows that a part
runs.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from benchmarks.peers import CASES, Case
from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, sparse, sparse_decode, top_k_of_batch, top_k_per_row

Result = dict[str, Any]
STEPS = 3


def profile(case: Case, device: torch.device) -> Iterator[Result]:
    """Say where the time of a BatchTopK step goes, how often it waits for the host, and what memory it takes."""
    step, _ = steps_of(case, device)
    for _ in range(STEPS):
        step()
    reset_peak(device)
    activities = [torch.profiler.ProfilerActivity.CPU, *[torch.profiler.ProfilerActivity.CUDA][: device.type == "cuda"]]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(STEPS):
            step()
        synchronize(device)
    events = profiler.key_averages()
    calls = {event.key: event.count for event in events}
    waits = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpyAsync", "aten::item")
    counted = {name: round(calls.get(name, 0) / STEPS, 1) for name in waits}
    yield {"what": "a step", **counted, "peak_gb": peak_gb(device)}
    spent = [
        (event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total, event)
        for event in events
    ]
    for us, event in sorted(spent, key=lambda pair: -pair[0])[:12]:
        yield {"what": event.key[:60], "ms": round(us / STEPS / 1e3, 3), "calls": round(event.count / STEPS, 1)}


def kernels(case: Case, device: torch.device) -> Iterator[Result]:
    """Time selections and sparse products beside what torch has for them."""
    x, W_enc = torch.randn(case.batch, case.d_in, device=device), torch.randn(case.d_in, case.d_sae, device=device)
    b_enc, W_dec = torch.zeros(case.d_sae, device=device), torch.randn(case.d_sae, case.d_in, device=device)
    ways: dict[str, Callable[[], object]] = {
        "encode product, float32": lambda: x @ W_enc,
        "top k per row, with the product (ours)": lambda: top_k_per_row(PreActs(x, W_enc, b_enc), case.k),
        "the same with torch.topk": lambda: torch.topk(torch.addmm(b_enc, x, W_enc), case.k, sorted=False),
        "top k of the batch, with the product (ours)": lambda: top_k_of_batch(PreActs(x, W_enc, b_enc), case.k),
        "the same with torch.topk ": lambda: torch.topk(torch.addmm(b_enc, x, W_enc).flatten(), case.k * case.batch),
    }
    for name, way in ways.items():
        yield {"what": name, "ms": timed(way, device)}
    for share in (0.002, 0.004, 0.01, 0.02, 0.05, 0.1):
        k = max(1, int(share * case.d_sae))
        indices = torch.rand(case.batch, case.d_sae, device=device).topk(k).indices
        code = Code.from_rows(torch.rand(case.batch, k, device=device), indices, case.d_sae)
        for dtype in (torch.float32, torch.bfloat16):
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                sparse_ms, dense_ms = (timed_decode(code, W_dec, is_dense, device) for is_dense in (False, True))
            yield {"what": f"decode, {share:.1%} active, {dtype}", "sparse_ms": sparse_ms, "dense_ms": dense_ms}
        del code, indices


def timed_decode(code: Code, W_dec: Tensor, is_dense: bool, device: torch.device) -> float:
    """Return the median ms of decoding one way, whichever a code with so many entries takes; for the whole process."""
    for name in ("DENSE_SHARE", "GPU_DENSE_SHARE", "TENSOR_CORE_DENSE_SHARE"):
        setattr(sparse, name, 0.0 if is_dense else 1.1)
    return timed(lambda: sparse_decode(code.values, code, W_dec, None), device)


def resume(case: Case, device: torch.device) -> Iterator[Result]:
    """Train the demo's panel in one go, and stopped and resumed; say which tensors differ."""
    states = []
    for stops in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder, options = Path(name), []
            if stops:
                with suppress(SystemExit):
                    fit(
                        folder,
                        device,
                        "--trainer.callbacks+=benchmarks.gpu_parts.StopAt",
                        "--trainer.callbacks.step=20",
                    )
                options = [f"--ckpt_path={next(folder.rglob('interrupted.ckpt'))}"]
            fit(folder, device, *options)
            last = next(folder.rglob("last.ckpt"))
            states.append(torch.load(last, map_location="cpu", weights_only=False)["state_dict"])
    differ = [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])]
    largest = max((float((states[0][name] - states[1][name]).abs().max()) for name in differ), default=0.0)
    yield {
        "what": "tensors that differ",
        "n": len(differ),
        "of": len(states[0]),
        "largest": largest,
        "names": differ[:4],
    }


class StopAt(Callback):
    """Stop as SIGTERM does, after a step.

    Args:
        step: after which.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Raise the signal."""
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


def precision(case: Case, device: torch.device) -> Iterator[Result]:
    """Train the demo's panel in float32 and in bf16-mixed."""
    for chosen in ("32-true", "bf16-mixed"):
        with tempfile.TemporaryDirectory() as folder:
            fit(Path(folder), device, f"--trainer.precision={chosen}")
            (file,) = Path(folder).rglob("metrics.jsonl")
            last = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
        values = {policy: seeds["0"] for policy, seeds in last["metrics"]["explained_variance"].items()}
        yield {"what": chosen, **{policy: round(value, 4) for policy, value in values.items()}}


def memory(case: Case, device: torch.device) -> Iterator[Result]:
    """Train a panel of four with AuxK on random activations for a few steps; measure its peak and that of `Drift`."""
    from torch.utils.data import DataLoader

    from sae_lightning import freeze, saes
    from sae_lightning.evaluators.drift import cosine_to_start
    from sae_lightning.panel import SanityPanel

    policies = {
        "trained": freeze.NoFreeze(),
        "soft_frozen_decoder": freeze.SoftFrozenDecoder(min_cosine=0.8),
        "frozen_decoder": freeze.FrozenDecoder(),
        "frozen_encoder": freeze.FrozenEncoder(),
    }
    inits = {"frozen_decoder": saes.Isotropic()}  # a covariance would be measured first
    panel = SanityPanel(
        case.d_in, partial(saes.BatchTopK, **arguments(case)), policies=policies, inits=inits, seeds=[0]
    )
    loader: DataLoader[Tensor] = DataLoader(torch.randn(STEPS * case.batch, case.d_in), batch_size=case.batch)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, max_epochs=1, log_every_n_steps=1, **quiet
    )
    reset_peak(device)
    started = time.perf_counter()
    trainer.fit(panel, loader)
    seconds = round(time.perf_counter() - started, 1)
    yield {"what": f"{STEPS} steps of a panel of four", "seconds": seconds, "peak_gb": peak_gb(device)}
    panel.to(device)
    reset_peak(device)
    for sae in panel.members.values():
        cosine_to_start(sae.W_dec.detach(), sae.W_dec_start)
    yield {"what": "Drift", "peak_gb": peak_gb(device)}


def collectives(case: Case, device: torch.device) -> Iterator[Result]:
    """Take a step with one rank of NCCL (of gloo on a CPU), and compare it with a step without ranks."""
    states = []
    for ranks in (0, 1):
        if ranks:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=0, world_size=1)
        step, sae = steps_of(case, device)
        for _ in range(STEPS):
            step()
        states.append({name: tensor.clone() for name, tensor in sae.state_dict().items()})
    torch.distributed.destroy_process_group()
    differ = [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])]
    yield {"what": "tensors that differ", "n": len(differ), "of": len(states[0]), "names": differ[:4]}


# What the parts are made of
# -----------------------------------------------------------------------------------------------------------------


def arguments(case: Case) -> dict[str, Any]:
    """Return arguments of a BatchTopK SAE; AuxK has work after its first step."""
    from sae_lightning import saes

    return {"d_sae": case.d_sae, "k": case.k, "dead_after_samples": case.batch, "b_dec_init": saes.Zero()}


def steps_of(case: Case, device: torch.device) -> tuple[Callable[[], None], Any]:
    """Return a function that takes one step of a BatchTopK SAE on random activations, and the SAE."""
    from sae_lightning import saes

    torch.manual_seed(0)
    batch = torch.randn(case.batch, case.d_in, device=device) / case.d_in**0.5
    sae = saes.BatchTopK(case.d_in, **arguments(case)).to(device).train()
    optimizer: Any = sae.configure_optimizers()
    n_steps = 0

    def step() -> None:
        nonlocal n_steps
        sae.losses(batch, n_steps)["loss"].backward()
        sae.on_before_optimizer_step(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        sae.constrain()
        n_steps += 1

    return step, sae


def fit(folder: Path, device: torch.device, *options: str) -> None:
    """Run the demo with one seed of each policy on 81,920 tokens."""
    from sae_lightning.cli import main

    accelerator = "gpu" if device.type == "cuda" else "cpu"
    main([
        *("fit", "--config", "experiment/sanity_pocket_lm", f"--trainer.logger.save_dir={folder}", *options),
        *("--data.train_samples=81920", "--data.val_samples=8192", "--model.seeds=[0]"),
        f"--trainer.accelerator={accelerator}",
    ])  # fmt: skip


def timed(way: Callable[[], object], device: torch.device) -> float:
    """Return the median ms of seven runs after two."""
    times = []
    for turn in range(9):
        synchronize(device)
        started = time.perf_counter()
        way()
        synchronize(device)
        if turn > 1:
            times.append(1e3 * (time.perf_counter() - started))
    return round(statistics.median(times), 3)


def synchronize(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Begin to measure the peak of the memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """Return the peak of torch's allocations in 10^9 bytes; None on a CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None


PARTS: dict[str, Callable[[Case, torch.device], Iterator[Result]]] = {
    part.__name__: part for part in (profile, kernels, resume, precision, memory, collectives)
}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--case", choices=list(CASES), default="e")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    args = parser.parse_args()
    for result in PARTS[args.part](CASES[args.case], torch.device(args.device)):
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
