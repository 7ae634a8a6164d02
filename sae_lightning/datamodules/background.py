"""An iterator that works ahead in a thread."""

import atexit
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_SECONDS_AT_EXIT = 5.0
_threads: "weakref.WeakKeyDictionary[threading.Thread, threading.Event]" = weakref.WeakKeyDictionary()


class Background(Iterator[T], Generic[T]):
    """The items of an iterator in their order, made in a thread before they are asked for.

    An error comes where its item would have come, again each time. The thread ends when nobody holds this object.

    Args:
        items: what to iterate over; must not hold this object.
        ahead: items that are kept ready, at least 1.
    """

    def __init__(self, items: Iterator[T], ahead: int) -> None:
        self._ready: queue.Queue[T | BaseException] = queue.Queue(ahead)
        self._error: BaseException | None = None
        stop = threading.Event()
        weakref.finalize(self, stop.set)
        thread = threading.Thread(target=_fill, args=(self._ready, items, stop), daemon=True)
        _threads[thread] = stop
        thread.start()

    def __next__(self) -> T:
        if self._error is None:
            item = self._ready.get()
            if not isinstance(item, BaseException):
                return item
            self._error = item
        raise self._error


def _fill(ready: "queue.Queue[T | BaseException]", items: Iterator[T], stop: threading.Event) -> None:
    item: T | BaseException | None = None
    while not isinstance(item, BaseException):
        try:
            item = next(items)
        except BaseException as error:
            item = error
        while True:
            if stop.is_set():
                return
            try:
                ready.put(item, timeout=0.2)
                break
            except queue.Full:
                continue


@atexit.register
def _end() -> None:
    """Lets threads finish what they are at: one that is in compiled code when Python ends aborts the process."""
    for stop in _threads.values():
        stop.set()
    for thread in list(_threads):
        thread.join(_SECONDS_AT_EXIT)
