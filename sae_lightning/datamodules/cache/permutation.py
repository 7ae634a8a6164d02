"""A random permutation of 0 .. n - 1 that is computed, not stored: any part of it at any time, without memory.

A Feistel network (Luby and Rackoff, 1988) permutes the smallest power of two that holds n; a number that falls outside
the range is permuted again until it is inside ("cycle walking": Black and Rogaway, 2002), twice on average at most.
The two halves of the bits may differ by one in length: each round changes one half by a function of the other, and the
same round undoes it, so the whole is a bijection whatever that function is. Here it is MurmurHash3's finaliser.
"""

import hashlib

import numpy as np

_ROUNDS = 8
_MIN_BITS = 4  # with fewer a half has too few values for the rounds to mix


class Permutation:
    """A permutation of 0 .. n - 1.

    Args:
        n: number of numbers, at least 1.
        key: whole numbers that choose the permutation.
    """

    def __init__(self, n: int, *key: int) -> None:
        self.n = n
        bits = max((n - 1).bit_length(), _MIN_BITS)
        self._low_bits = np.uint64(bits // 2)
        self._low = np.uint64((1 << (bits // 2)) - 1)
        self._high = np.uint64((1 << (bits - bits // 2)) - 1)
        digest = hashlib.shake_128(repr((n, *key)).encode()).digest(8 * _ROUNDS)
        self._keys = np.frombuffer(digest, dtype="<u8")

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the numbers at these positions: int64 [k] in, int64 [k] out."""
        values = self._permute(positions.astype(np.uint64))
        outside = np.flatnonzero(values >= self.n)
        while len(outside):
            values[outside] = self._permute(values[outside])
            outside = outside[values[outside] >= self.n]
        return values.astype(np.int64)

    def _permute(self, values: np.ndarray) -> np.ndarray:
        low, high = values & self._low, values >> self._low_bits
        for first, second in zip(self._keys[::2], self._keys[1::2], strict=True):
            low = low ^ (_mix(high ^ first) & self._low)
            high = high ^ (_mix(low ^ second) & self._high)
        return (high << self._low_bits) | low


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))
