"""The processes that write a cache together."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Process:
    """One of the processes that write together; by default the only one.

    Args:
        rank: number of this process.
        world_size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @staticmethod
    def from_environment() -> "Process":
        """Read the environment variables that torchrun or Slurm sets."""
        for names in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")):
            if all(name in os.environ for name in names):
                return Process(*(int(os.environ[name]) for name in names))
        return Process()

    @property
    def device(self) -> str:
        """Where this process runs the model."""
        return f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu"
