"""Progress bars of the processes that take long, with the time left; on a file or a pipe, a line now and then."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(what: str, unit: str, total: int, done: int = 0) -> Any:
    """A tqdm bar on stderr that has `done` of `total` behind it."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(
        desc=what, unit=unit, total=total, initial=done, dynamic_ncols=True, mininterval=interval, maxinterval=interval
    )
