"""Schedules of the learning rate, in fractions of the run so that they fit a run of any length, and of penalties."""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sae_lightning.checks import check_between


class WarmupDecay(LRScheduler):
    """Linear warm-up, constant, then linear decay to zero.

    Args:
        optimizer: passed by the training module.
        warmup: fraction of the run's optimizer steps over which the learning rate rises from zero, in [0, 1].
        decay: fraction of the run's optimizer steps at its end over which the learning rate falls to zero, in [0, 1].
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.0, decay: float = 0.2) -> None:
        check_between(0, 1, warmup=warmup, decay=decay)
        if warmup + decay > 1:
            raise ValueError(f"warmup={warmup}, decay={decay}: expected two fractions of the run with a sum up to 1")
        self.warmup, self.decay = warmup, decay
        self.total_steps: int | None = None
        super().__init__(optimizer)

    def span(self, total_steps: int) -> None:
        """Set the length of the run in optimizer steps, as soon as it is known."""
        self.total_steps = total_steps
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group for the next optimizer step."""
        return [base_lr * self.factor(self.last_epoch) for base_lr in self.base_lrs]

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate for the optimizer step with this number, counted from 0."""
        if self.total_steps is None:
            return 1.0
        done = step + 1
        rising = done / (self.warmup * self.total_steps) if self.warmup else 1.0
        falling = (self.total_steps - step) / (self.decay * self.total_steps) if self.decay else 1.0
        return max(0.0, min(1.0, rising, falling))


def warmed_up(step: int, warmup_steps: int) -> float:
    """Return the factor of a penalty that rises linearly from 0 to 1 over the first optimizer steps."""
    return min(1.0, step / warmup_steps) if warmup_steps else 1.0
