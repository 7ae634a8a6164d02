"""What a control costs, told before it is made: dense products, sparse gathers, memory.

Estimates to a factor of two: `seconds` takes them for a machine whose speed at both is known.
"""

from dataclasses import dataclass

from sae_lightning.metrics.least_squares import DIRECT_LIMIT
from sae_lightning.metrics.nonnegative_pursuit import CANDIDATES

_BYTES = 4  # of a float32
_ITERATIONS = 60
"""Iterations of conjugate gradients for all penalties together."""
_FACTORS = 5
"""Cholesky factors for all penalties together."""


@dataclass(frozen=True)
class Cost:
    """What something costs.

    Args:
        flops: floating-point operations of dense products, a multiplication and an addition counted as two.
        bytes: memory that is moved by sparse products and gathers, which run at the speed of the memory.
        memory: most bytes that are held at a time, beside the SAE and the samples.
    """

    flops: float = 0.0
    bytes: float = 0.0
    memory: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both, one after the other."""
        return Cost(self.flops + other.flops, self.bytes + other.bytes, max(self.memory, other.memory))

    def __mul__(self, times: int) -> "Cost":
        """Return the cost of doing it several times, one after the other."""
        return Cost(self.flops * times, self.bytes * times, self.memory)

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Return how long it takes on a machine of this speed."""
        return self.flops / flops_per_second + self.bytes / bytes_per_second


def of_encoding(n: int, d_in: int, d_sae: int, l0: float) -> Cost:
    """Return the cost of latents of n samples by an encoder, and of their reconstruction.

    >>> of_encoding(2, 3, 5, 1.0).flops
    60.0
    """
    return Cost(2.0 * n * d_in * d_sae, n * l0 * d_in * _BYTES, 20 * n * l0)


def of_pursuit(n: int, d_in: int, d_sae: int, l0: float, rounds: int) -> Cost:
    """Return the cost of latents of n samples by matching pursuit, and of their reconstruction."""
    k, rounds = max(1.0, l0), max(1, min(rounds, int(l0)))
    pool = k + CANDIDATES * k / rounds
    refined = Cost(
        2 * pool**2 * d_in * n, 3 * pool * (d_in + 8 * k / rounds * 3) * _BYTES * n, pool * d_in * _BYTES * n
    )
    products = of_encoding(n, d_in, d_sae, l0) * rounds
    return products + Cost(refined.flops, refined.bytes, min(refined.memory, 1e9)) * rounds


def of_least_squares(n: int, d_in: int, d_sae: int, l0: float) -> Cost:
    """Return the cost of fitting a decoder to n samples."""
    product = n * l0 * d_in * _BYTES
    if d_sae <= DIRECT_LIMIT:
        # Cholesky factors and gram are in float64, which takes twice the time of float32.
        flops = 2 * _FACTORS * (d_sae**3 / 3 + 2 * d_sae**2 * d_in)
        return Cost(flops, 2 * product + 24 * n * l0**2, 3 * 8.0 * d_sae**2)
    return Cost(0.0, _ITERATIONS * (2 * product + 10 * _BYTES * d_sae * d_in), 6.0 * _BYTES * d_sae * d_in)
