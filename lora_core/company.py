"""The processes that share one piece of work: who is at work is told by their locks. Imports no torch.

A stage of a race is judged when all its pictures are there, so a process that has made its own waits for those that
the others are making. It waits for nobody who is not at work: a part that was not begun, or was killed, is begun by
whoever started the processes, after they have ended. So nobody waits for ever, however few run at once.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_core.errors import ResourceError
from lora_core.process import is_written, only_one
from lora_core.share import Share

_POLL_SECONDS = 0.5


class Company:
    """One process of those that share a piece of work.

    Attributes:
        share: the part of this process.
    """

    def __init__(self, folder: Path, share: Share) -> None:
        """`folder` has the locks of all who do it, in parts or as a whole."""
        self._folder, self.share = folder, share

    @property
    def own(self) -> Path:
        """The folder of this part, which nobody else writes."""
        return self._folder if self.share.whole else self._folder / str(self.share)

    @contextmanager
    def at_work(self, patience: float = 30) -> Iterator[None]:
        """Within the block no other process does the same part, or the whole of what this one does a part of.

        Raises:
            ResourceError: another one does, and goes on for longer than `patience` seconds.
        """
        if self.share.whole:
            with only_one(self.own, patience):
                self._require(lambda: not any(is_written(part) for part in self._folder.glob("*-of-*")), patience)
                yield
            return
        while True:
            self._require(lambda: not is_written(self._folder), patience)
            with only_one(self.own, patience):
                if not is_written(self._folder):  # else the whole began while this part waited for its own lock
                    yield
                    return

    def wait_for(self, files: Iterable[Path]) -> bool:
        """Whether all of them are there, after those who may be making them have ended or made them."""
        missing = [file for file in files if not file.exists()]
        while missing:
            alone = not any(is_written(self._folder / str(other)) for other in self._others())
            missing = [file for file in missing if not file.exists()]
            if missing and alone:
                return False
            if missing:
                time.sleep(_POLL_SECONDS)
        return True

    def _others(self) -> Iterator[Share]:
        count = self.share.count
        return (Share(index, count) for index in range(count) if index != self.share.index)

    def _require(self, free: Callable[[], bool], patience: float) -> None:
        end = time.monotonic() + patience
        while not free():
            if time.monotonic() > end:
                raise ResourceError(f"{self._folder} is being written by another run; wait for it or stop it")
            time.sleep(_POLL_SECONDS)
