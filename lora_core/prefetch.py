"""Batches made ahead of the step that needs them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """An endless iterator over make(start), make(start + step), …, made in threads and given in order.

    What `make` raises is raised where its result would have come. Close it, or use it in a `with` block.
    """

    def __init__(self, make: Callable[[int], T], start: int, step: int, depth: int, workers: int):
        """Starts at once.

        Args:
            depth: results that are made or in work ahead, at least 1.
            workers: threads.
        """
        self._make, self._next, self._step = make, start, step
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._ahead: deque[Future[T]] = deque()
        for _ in range(max(1, depth)):
            self._submit()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self._ahead:
            raise StopIteration
        first = self._ahead.popleft()
        self._submit()
        return first.result()

    def __enter__(self) -> "Prefetcher[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is in work, drops it, and ends the iteration."""
        self._ahead.clear()
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        self._ahead.append(self._pool.submit(self._make, self._next))
        self._next += self._step
