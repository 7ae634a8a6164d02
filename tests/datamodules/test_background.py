import gc
import subprocess
import sys
import threading
import time

import pytest

from sae_lightning.datamodules import background
from sae_lightning.datamodules.background import Background


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_the_items_in_order_and_only_so_many_ahead():
    made = []
    ready = Background((made.append(i) or i for i in range(10)), ahead=2)
    assert until(lambda: made == [0, 1, 2])  # two are ready, one waits to be
    time.sleep(0.1)
    assert made == [0, 1, 2]
    assert [next(ready) for _ in range(10)] == list(range(10))
    with pytest.raises(StopIteration):
        next(ready)


def test_an_error_comes_in_its_place_and_again():
    def items():
        yield 1
        raise OSError("gone")

    ready = Background(items(), ahead=3)
    assert next(ready) == 1
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            next(ready)


def test_the_thread_ends_with_its_object():
    before = set(threading.enumerate())
    ready = Background(iter(int, 1), ahead=1)
    assert next(ready) == 0
    (thread,) = set(threading.enumerate()) - before
    del ready
    gc.collect()
    assert until(lambda: not thread.is_alive())


def test_a_process_ends_well_while_a_thread_is_in_compiled_code():
    program = f"""if True:
        import runpy
        import torch

        Background = runpy.run_path({background.__file__!r})["Background"]  # without the rest of its room
        items = iter(lambda: torch.linalg.svdvals(torch.eye(400)).sum(), None)
        ready = Background(items, ahead=2)
        next(ready)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
