"""What a command costs before it does anything: seconds of CPU (user and system) and peak memory of whole processes.

Run ``python -m benchmarks.startup``. Each line is the median of a few processes, run one at a time; imports are
compiled before. The last case trains one batch of the pocket configuration, reading the model and the text.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median

_SAE = ("-m", "sae_lightning")
_POCKET = (*_SAE, "fit", "--config", "sanity_pocket_lm")
_ONE_BATCH = (
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=0",
    "--trainer.callbacks=null",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
)
CASES = {
    'python -c "import torch"': ("-c", "import torch"),
    'python -c "import lightning.pytorch.cli"': ("-c", "import lightning.pytorch.cli"),
    "sae --help": (*_SAE, "--help"),
    "sae hooks --help": (*_SAE, "hooks", "--help"),
    "sae fit --help": (*_SAE, "fit", "--help"),
    "sae fit --model.help TopK": (*_SAE, "fit", "--model.help", "TopK"),
    "sae fit --config sanity_pocket_lm --print_config": (*_POCKET, "--print_config"),
    "sae fit --config sanity_pocket_lm, one batch": (*_POCKET, *_ONE_BATCH),
}
"""What is printed of a case, and its arguments to python."""


def cost(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Run a process to its end; return its seconds of CPU and its peak memory in MB.

    Raises:
        RuntimeError: if the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, **silent)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"python {' '.join(arguments)} ended with status {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="Processes of each case.")
    repeats = parser.parse_args().repeats
    print(f"{'':<48}  s of CPU   peak MB")
    for name, arguments in CASES.items():
        cost(arguments)
        seconds, memory = zip(*(cost(arguments) for _ in range(repeats)), strict=True)
        print(f"{name:<48}  {median(seconds):8.2f}  {median(memory):8.0f}", flush=True)


if __name__ == "__main__":
    main()
