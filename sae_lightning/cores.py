"""Which cores this process may use, and whether it has them to itself; what must be settled before torch is loaded.

torch's threads wait for each other at the end of every operation, and by default they wait in a loop (GNU OpenMP:
300,000 turns). Where another process has the core that the last of them needs, that loop is most of the run: with eight
busy processes on two cores training ran at a tenth of the speed that it has with threads that sleep. On idle cores
sleeping costs 5 to 10 %, so it is chosen where cores are shared or limited, and nowhere else. How threads wait changes
no result.
"""

import os
import time
from pathlib import Path

_CGROUPS, _PROC = Path("/sys/fs/cgroup"), Path("/proc")
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""How the OpenMP libraries of GNU and Intel wait; what a user has set stays."""


_GLANCES = 5


def let_threads_sleep() -> None:
    """Let threads that wait sleep, where cores are shared or limited; to be called before torch is imported."""
    if not any(name in os.environ for name in _WAITING) and (cpu_quota() < allowed_cores() or busy_cores() > 0):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def own_cores() -> int:
    """Return how many threads this process can keep busy: the cores it may use, shared with ranks on this machine."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(min(allowed_cores(), cpu_quota())) // (int(ranks) if ranks.isdigit() and int(ranks) else 1))


def allowed_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota() -> float:
    """Return the least number of cores that a control group around this process grants; infinite without a limit."""
    return min((quota for folder in _control_groups() if (quota := _quota(folder)) is not None), default=float("inf"))


def busy_cores() -> int:
    """Return how many threads of other processes run or wait for a core; 0 where these are too few to matter.

    The load averages of the system would be late: after an installation they are high for a minute.
    """
    counts = []
    try:
        for _ in range(_GLANCES):
            running = (_PROC / "loadavg").read_text().split()[3].partition("/")[0]
            counts.append(int(running) - 1)  # one that runs is this
            time.sleep(0.002)
    except (OSError, ValueError, IndexError):  # no Linux
        return 0
    busy = sorted(counts)[_GLANCES // 2]
    return busy if busy >= max(1, allowed_cores() / 8) else 0


def _control_groups() -> list[Path]:
    """Return the folders of the control groups (version 1 and 2) that limit this process, up to the root."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in (_CGROUPS, _CGROUPS / "cpu", _CGROUPS / "cpu,cpuacct", _CGROUPS / "unified"):
            group = root / path.lstrip("/")
            # Within a container the path may be that of the host, and only the root is there.
            folders += [folder for folder in (group, *group.parents) if folder == root or root in folder.parents]
    return folders


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return float(quota) / float(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
