"""An iterator whose items are made ahead in a thread."""

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
    """The items of an iterator in their order, made in a thread before they are needed.

    An error of the iterator is raised in place of the item, and again at each later call. The thread ends when nothing
    holds this object any more.

    Args:
        items: what to iterate over; must not hold this object, or the thread would never end.
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
    """Put items into the queue until the iterator ends or `stop` is set; a function, so that it holds no object."""
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
    """Let threads finish their item: a thread in compiled code when Python ends aborts the process."""
    for stop in _threads.values():
        stop.set()
    for thread in list(_threads):
        thread.join(_SECONDS_AT_EXIT)
