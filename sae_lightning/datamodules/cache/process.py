"""Which of the processes that write a cache together this is."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Process:
    """Which of the processes that write together this is; by default the only one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @staticmethod
    def of_environment() -> "Process":
        """As torchrun or Slurm set it."""
        for names in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")):
            if all(name in os.environ for name in names):
                return Process(*(int(os.environ[name]) for name in names))
        return Process()

    @property
    def device(self) -> str:
        """Where this process runs the model."""
        return f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu"
