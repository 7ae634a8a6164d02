"""Estimate what a run takes on GPUs: sizes, memory, work, traffic and time, each with its formula.

    python -m benchmarks.plan --config configs/experiment/sanity_gemma2_2b_l12.yaml --gpus 16 [--batch-size 256]
        [--strategy members]

Nothing is loaded or measured. Times are rough lower bounds: work over an assumed rate plus bytes over an assumed
bandwidth, with nothing overlapped, no dead latents (AuxK) and no text to read. GB are 10^9 bytes.
"""

import argparse
import re
from dataclasses import dataclass
from typing import Any

import yaml

from sae_lightning.evaluators.loss_recovered import MOST_LOGITS

TRAINED = {"NoFreeze": 2, "SoftFrozenDecoder": 2, "FrozenDecoder": 1, "FrozenEncoder": 1, "Untrained": 0}
"""Number of matrices of an SAE that have a gradient, by freeze policy."""


@dataclass(frozen=True)
class LanguageModel:
    """Sizes of a decoder-only transformer with gated MLPs, from its config.json."""

    d: int
    d_mlp: int
    layers: int
    heads: int
    kv_heads: int
    d_head: int
    vocabulary: int
    tied: bool

    @property
    def layer_parameters(self) -> int:
        """Parameters of the matrices of one layer: query and output, key and value, three of the MLP."""
        return self.d * self.d_head * 2 * (self.heads + self.kv_heads) + 3 * self.d * self.d_mlp

    @property
    def parameters(self) -> int:
        """Parameters of all matrices."""
        return self.layers * self.layer_parameters + self.vocabulary * self.d * (1 if self.tied else 2)

    def forward_flops(self, layers: int, context: int) -> int:
        """Return the FLOPs of one token through the first layers, without the head.

        Each parameter takes 2, and attention two products.

        Args:
            layers: number of layers that are run.
            context: positions that attention reads.
        """
        return layers * (2 * self.layer_parameters + 4 * context * self.heads * self.d_head)


MODELS = {
    "google/gemma-2-2b": LanguageModel(2304, 9216, 26, 8, 4, 256, 256_000, tied=True),
    "meta-llama/Meta-Llama-3-8B": LanguageModel(4096, 14336, 32, 32, 8, 128, 128_256, tied=False),
}


@dataclass(frozen=True)
class Machine:
    """Assumed hardware; the defaults are about two fifths of an H100's peak and 70 % of its memory bandwidth.

    Args:
        gpus: number of GPUs of the run.
        gpus_per_node: GPUs that NVLink connects.
        tflops: TFLOP/s of a GPU in bfloat16.
        memory_gbs: GB/s of a GPU's memory.
        nvlink_gbs: GB/s in a ring through NVLink.
        network_gbs: GB/s between nodes.
    """

    gpus: int = 1
    gpus_per_node: int = 8
    tflops: float = 400.0
    memory_gbs: float = 2400.0
    nvlink_gbs: float = 300.0
    network_gbs: float = 50.0

    @property
    def all_reduce_gbs(self) -> float:
        """GB/s of a ring through all GPUs: those of its slowest link."""
        return self.nvlink_gbs if self.gpus <= self.gpus_per_node else self.network_gbs


Row = tuple[str, float, str, str]


@dataclass(frozen=True)
class Spread:
    """How members lie on GPUs.

    Args:
        here: freeze policies of the members of the fullest GPU.
        groups: of GPUs with different members.
        replicas: GPUs with the same members.
    """

    here: list[str]
    groups: int
    replicas: int

    @classmethod
    def of(cls, policies: list[str], gpus: int, strategy: str) -> "Spread":
        """Spread members of one size.

        Raises:
            ValueError: if the GPUs cannot be shared evenly.
        """
        groups = min(gpus, len(policies)) if strategy == "members" else 1
        if gpus % groups:
            raise ValueError(f"{gpus} GPUs for {len(policies)} members: expected at most as many, or a multiple")
        dealt = [policies[group::groups] for group in range(groups)]
        return cls(max(dealt, key=lambda own: sum(TRAINED[one] + 1 for one in own)), groups, gpus // groups)


def plan(settings: dict[str, Any], machine: Machine, batch_size: int | None = None, strategy: str = "ddp") -> list[Row]:
    """Return rows of (quantity, value, unit, formula); a row with an empty unit is a heading.

    Args:
        settings: configuration of ``sae fit`` with a SanityPanel or an SAE on a language model in MODELS.
        machine: assumed hardware.
        batch_size: activations in a batch of one rank, in place of the configuration's.
        strategy: ddp, where every GPU has all members, or members, where they have different ones.

    Raises:
        ValueError: if the language model is not in MODELS, or GPUs cannot be shared evenly among members.
    """
    data, model = settings["data"]["init_args"], settings["model"]
    if data.get("model") not in MODELS:
        raise ValueError(f"data.model={data.get('model')}: expected one of {', '.join(MODELS)}")
    lm, layers = MODELS[data["model"]], int(re.search(r"layers\.(\d+)", data["hook"]).group(1)) + 1
    panel = "policies" in model["init_args"]
    policies = [policy["class_path"] for policy in model["init_args"]["policies"].values()] if panel else ["NoFreeze"]
    policies = policies * len(model["init_args"].get("seeds", [0]) if panel else [0])
    sae = model["init_args"]["sae"]["init_args"] if panel else model["init_args"]
    d_in, k, context = lm.d, sae["k"], data["context_length"]
    d_sae = sae.get("d_sae") or round(d_in * sae["expansion_factor"])
    batch, tokens = batch_size or data["batch_size"], data["train_samples"]
    matrix, n, spread = d_in * d_sae, machine.gpus, Spread.of(policies, machine.gpus, strategy)
    n_members, all_trained = len(policies), sum(TRAINED[policy] for policy in policies)
    members, trained = len(spread.here), sum(TRAINED[policy] for policy in spread.here)
    decoders = sum(policy in ("NoFreeze", "SoftFrozenDecoder", "FrozenEncoder") for policy in spread.here)
    buffer, forward = data["buffer_samples"] * d_in * 2, data["llm_batch_size"] * context
    rows = batch * spread.groups
    block = min(rows * d_sae, 2**28)

    memory: list[Row] = [
        ("weights", 8 * members * matrix, "GB", "4 bytes x 2 matrices x members"),
        ("decoder starts", 4 * members * matrix, "GB", "4 bytes x 1 matrix x members"),
        ("gradients", 4 * trained * matrix, "GB", "4 bytes x trained matrices"),
        ("Adam", 8 * trained * matrix, "GB", "8 bytes x trained matrices"),
        (
            "buckets of DDP",
            4 * trained * matrix if spread.replicas > 1 else 0,
            "GB",
            "as gradients; none with gradient_as_bucket_view",
        ),
        ("one gradient on its way, encoder in bfloat16", 6 * matrix, "GB", "(4 + 2) bytes x 1 matrix"),
        ("pre-activations", 4 * block, "GB", "2 bytes x 2 copies x min(rows x d_sae, 2^28)"),
        ("language model", 2 * lm.parameters, "GB", "2 bytes x parameters, all layers"),
        ("its activations", 2 * forward * (3 * lm.d_mlp + 6 * d_in), "GB", "2 bytes x tokens x (3 d_mlp + 6 d_in)"),
        ("buffer", buffer, "GB", "2 bytes x buffer_samples x d_in"),
    ]
    total = sum(row[1] for row in memory)
    lm_flops, encode_flops = lm.forward_flops(layers, context), 2 * n_members * matrix
    sparse_flops = 2 * k * d_in * (2 * n_members + all_trained)
    flops = lm_flops + encode_flops + sparse_flops
    gathered = 4 * rows * k * d_in * (2 * members + trained)
    optimizer = matrix * (28 * trained + 4 * trained + 20 * decoders + 6 * members)
    screened = 3 * 2 * rows * d_sae * members
    sent = 4 * trained * matrix
    received = 2 * (spread.groups - 1) * batch * d_in
    seconds = {
        "language model": batch * lm_flops / (machine.tflops * 1e12),
        "encode": rows * 2 * members * matrix / (machine.tflops * 1e12),
        "memory": (gathered + optimizer + screened) / (machine.memory_gbs * 1e9),
        "all-reduce": 2 * (1 - 1 / spread.replicas) * sent / (machine.all_reduce_gbs * 1e9),
        "all-gather": received / (machine.all_reduce_gbs * 1e9),
    }
    step, steps = sum(seconds.values()), tokens // (batch * n)
    return [
        ("Sizes", 0, "", ""),
        ("members", n_members, "n", "policies x seeds"),
        ("members of a GPU", members, "n", "at most"),
        ("parameters of a member", 2 * matrix + d_in + d_sae, "M", f"2 x {d_in} x {d_sae} + biases"),
        ("trained matrices", all_trained, "n", "2 a member, less what its policy freezes"),
        ("parameters of the language model", lm.parameters, "M", f"{lm.layers} layers, embedding"),
        ("Memory of a GPU", 0, "", ""),
        *memory,
        ("sum", total, "GB", ""),
        (
            "besides, in LossRecovered",
            2 * min(forward * lm.vocabulary, max(MOST_LOGITS, context * lm.vocabulary)),
            "GB",
            f"each copy of the logits: 2 bytes x tokens x vocabulary, of rows with {MOST_LOGITS / 1e6:.0f} M at most",
        ),
        (
            "besides, on rank 0 while saving",
            n * buffer if spread.groups == 1 < n else 0,
            "GB",
            "the buffers of all ranks; none where each writes its own",
        ),
        ("Work", 0, "", ""),
        ("language model to the hook", lm_flops, "GFLOP/token", f"{layers} layers x (2 x parameters + attention)"),
        ("encode", encode_flops, "GFLOP/token", "2 x d_in x d_sae x members"),
        ("sparse products", sparse_flops, "GFLOP/token", "2 x k x d_in x (2 x members + trained matrices)"),
        ("whole run", flops * tokens, "EFLOP", "sum x train_samples"),
        ("Time of a step", 0, "", ""),
        ("language model", seconds["language model"], "ms", f"work / {machine.tflops:g} TFLOP/s"),
        ("encode", seconds["encode"], "ms", f"work / {machine.tflops:g} TFLOP/s"),
        ("memory: rows gathered", gathered, "GB", "4 bytes x rows x k x d_in x (2 x members + trained)"),
        ("memory: optimizer, norms", optimizer, "GB", "matrix x (32 x trained + 20 x trained decoders + 6 x members)"),
        ("memory: pre-activations", screened, "GB", "2 bytes x 3 passes x rows x d_sae x members"),
        ("memory", seconds["memory"], "ms", f"bytes / {machine.memory_gbs:g} GB/s"),
        ("all-reduce: gradients", sent, "GB", "4 bytes x trained matrices"),
        ("all-reduce", seconds["all-reduce"], "ms", f"2 (r - 1) / r x bytes / {machine.all_reduce_gbs:g} GB/s"),
        ("all-gather: batch", received, "GB", "2 bytes x (groups - 1) x batch x d_in"),
        ("all-gather", seconds["all-gather"], "ms", f"bytes / {machine.all_reduce_gbs:g} GB/s"),
        ("step", step, "ms", f"sum, for {batch * n:,} tokens"),
        ("Run", 0, "", ""),
        ("steps", steps, "n", "train_samples / (batch x GPUs)"),
        ("tokens a second", batch * n / step, "n", ""),
        ("hours", steps * step / 3600, "h", "steps x step"),
        ("GPU-hours", n * steps * step / 3600, "h", ""),
        ("activations on disk", 2 * tokens * d_in, "GB", "2 bytes x train_samples x d_in, if they are cached"),
        (
            "a checkpoint",
            (12 * n_members + 8 * all_trained) * matrix + n * buffer,
            "GB",
            "weights, starts, Adam, all buffers",
        ),
    ]


SCALES = {"GB": 1e9, "M": 1e6, "GFLOP/token": 1e9, "EFLOP": 1e18, "ms": 1e-3, "n": 1, "h": 1}


def table(rows: list[Row]) -> str:
    """Lay out the rows as Markdown, a table for each heading."""
    lines = []
    for name, value, unit, formula in rows:
        if not unit:
            lines += ["", f"| {name} | | |", "|---|---|---|"]
        else:
            number = value / SCALES[unit]
            shown = f"{number:,.0f}" if number >= 100 or unit == "n" else f"{number:.2f}"
            lines.append(f"| {name} | {shown}{'' if unit == 'n' else ' ' + unit} | {formula} |")
    return "\n".join(lines[1:])


def main() -> None:
    """Print the plan of one configuration."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True, help="a YAML of sae fit on a language model")
    parser.add_argument("--batch-size", type=int, help="of one rank, in place of the configuration's")
    parser.add_argument("--strategy", choices=("ddp", "members"), default="ddp", help="where members live")
    for name, default in vars(Machine()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = vars(parser.parse_args())
    with open(args.pop("config")) as file:
        settings = yaml.safe_load(file)
    batch_size, strategy = args.pop("batch_size"), args.pop("strategy")
    print(table(plan(settings, Machine(**args), batch_size, strategy)))


if __name__ == "__main__":
    main()
