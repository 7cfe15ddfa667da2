"""A bound on what threads have in work together."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """So many pixels at once, so that large photographs and many threads do not exhaust the memory."""

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Waits until there is room; a photograph that is larger than all of it runs alone."""
        share = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
