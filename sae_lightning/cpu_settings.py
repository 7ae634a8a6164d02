"""Settings of the process that make training on a CPU two to three times faster and change no result.

They concern libraries below torch, so they are set once, when a command starts; those of memory are set again when it
has allocated the tensors that it keeps.
"""

import ctypes
import logging
import math
import os
import platform
import time
import warnings
from functools import cache

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from sae_lightning.cores import allowed_cores, busy_cores, own_cores
from sae_lightning.kernels.pre_acts import can_pack, products

PLAIN = "SAE_PLAIN_PRODUCTS"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user sets the number of threads."""

# glibc's mallopt parameters (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4


def speed_up_cpu() -> None:
    """Choose threads and fast products and keep freed memory, where that is possible and harmless."""
    limit_threads()
    choose_products()
    keep_freed_memory()


def limit_threads() -> None:
    """Use no more threads than this process has cores, unless the user has set their number.

    torch knows which cores it may run on, but not of how many a control group grants the time (Docker's --cpus). What
    other processes take is only said: the last bits of a result depend on the number of threads, and should not depend
    on the moment when a run began.
    """
    if any(name in os.environ for name in _THREADS):
        return
    if (n := own_cores()) < torch.get_num_threads():
        torch.set_num_threads(n)
    if torch.get_num_threads() > 1 and (busy := busy_cores()):
        rank_zero_info(
            f"{busy} threads of other processes share the {allowed_cores()} cores, and the {torch.get_num_threads()} "
            "threads of this run wait for each other: with OMP_NUM_THREADS=1 in the environment it may be faster."
        )


def share_threads(n_processes: int) -> None:
    """Divide the cores among the processes of this run on this machine, unless the user has set their number.

    Lightning does so too, but divides cores whose time a control group may not grant.
    """
    if n_processes > 1 and not any(name in os.environ for name in _THREADS):
        n = max(1, own_cores() // n_processes)
        os.environ["OMP_NUM_THREADS"] = str(n)  # of the processes that are started from this one
        torch.set_num_threads(n)


def choose_products() -> None:
    """Choose the fast products that this machine has, each tried for the dtype that uses it.

    With SAE_PLAIN_PRODUCTS=1 in the environment none is chosen: every product is torch's own, as on a machine that has
    no others. Results then differ in their last bits alone; where they differ by more, a fast product is wrong.
    """
    if os.environ.get(PLAIN) == "1":
        products.packed, products.screened = frozenset(), False
        return
    exact = not torch.cuda.is_available() and use_fast_float32_products()  # beside CUDA the setting would mean TF32
    products.packed = frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if exact and can_pack(dtype))
    products.screened = has_fast_bfloat16()


def has_fast_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 faster than float32.

    It does if it has AVX-512 or matrix instructions for bfloat16 and oneDNN, which computes the products, uses them.
    """
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names) and can_pack(torch.bfloat16)


@cache
def slowness(dtype: torch.dtype) -> float:
    """Return how many times as long as in float32 the CPU takes for a product in this dtype, tried a few times.

    Whether a CPU has instructions for bfloat16 or float16 is one question, whether the libraries below torch use them
    another; the time answers both. Without them a product takes about ten times as long.
    """
    shortest = {}
    for tried in (torch.float32, dtype):
        x, weight = torch.ones(128, 512, dtype=tried), torch.ones(512, 512, dtype=tried)
        shortest[tried] = math.inf
        for _ in range(5):  # the first one prepares, and one may be interrupted
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            shortest[tried] = min(shortest[tried], time.perf_counter() - start)
    return shortest[dtype] / shortest[torch.float32]


def use_fast_float32_products(tolerance: float = 2e-6) -> bool:
    """Send float32 products to oneDNN if they stay float32 there.

    torch does so for the matmul precision "medium", whose meaning is that bfloat16 *may* be used. oneDNN uses it only
    where the CPU has matrix units for it (AMX); elsewhere it computes in float32, about twice as fast as torch's
    default library. Rather than trusting a list of CPUs, a product is checked, and an inexact one undoes the setting.

    Args:
        tolerance: the largest error allowed, relative to the largest entry; float32 has 3e-7, bfloat16 3e-3.

    Returns:
        Whether oneDNN computes the products from now on.
    """
    before = torch.get_float32_matmul_precision()
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    if amx or not torch.backends.mkldnn.is_available():
        return False
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=random) for _ in range(2))
    exact = left.double() @ right.double()
    torch.set_float32_matmul_precision("medium")
    error = ((left @ right).double() - exact).abs().max() / exact.abs().max()
    if error > tolerance:
        torch.set_float32_matmul_precision(before)
        return False
    return True


def separate_large_tensors() -> None:
    """Let glibc map every tensor of a megabyte or more by itself, until `keep_freed_memory` is called.

    Long-lived tensors among temporaries would leave holes that are too small for the next temporaries: the memory of a
    training step then grows by a tenth.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**20)


def keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks instead of returning them to the system.

    Otherwise each large tensor is a fresh mapping, and the page faults of its first write cost as much as a small
    matrix product. The price: the process holds its peak memory until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_TOP_PAD, 256 * 2**20)


def silence_known_noise() -> None:
    """Keep out of every run's output an advertisement, and a warning that concerns only Lightning and torch."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()
    )
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
