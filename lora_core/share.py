"""Which part of a row of independent pieces of work is mine: a function of the row alone, so that no one need ask."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lora_core.errors import DataError, UserError

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Share:
    """Part `index` of `count`; the only one of one is the whole."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"there is no part {self.index} of {self.count}")

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Share":
        """The inverse of `str`."""
        index, count = text.split("-of-")
        return cls(int(index), int(count))

    @property
    def whole(self) -> bool:
        """Whether nobody else has a part."""
        return self.count == 1

    def of(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Every `count`-th piece."""
        return list(pieces[self.index :: self.count])


WHOLE = Share()


class Turns:
    """A row of pieces cut into stretches of equal cost, neighbours together; ask for each piece once, in order.

    Args:
        share: the stretch.
        total: cost of the whole row.
    """

    def __init__(self, share: Share, total: int) -> None:
        self._share, self._total, self._before = share, max(1, total), 0

    def take(self, cost: int) -> bool:
        """Whether the next piece, of this cost, is mine: its middle lies in my stretch."""
        middle = 2 * self._before + cost
        self._before += cost
        owner = middle * self._share.count // (2 * self._total)
        return min(owner, self._share.count - 1) == self._share.index


@contextmanager
def named_host() -> Iterator[None]:
    """Lets the errors of a worker say on which machine they happened."""
    try:
        yield
    except UserError as error:
        error.args = (f"on {platform.node()}: {error}", *error.args[1:])
        raise


def require_same(found: str, wanted: str, what: str, place: Path) -> None:
    """Refuses a machine that sees something else than the one that shares the work out.

    Args:
        found: digest of what is seen here.
        wanted: digest of what is seen there.
        what: what was digested.
        place: where it lies.

    Raises:
        DataError: they differ.
    """
    if found != wanted:
        raise DataError(
            f"{place} is not what the run has there: {what} differ (digest {found[:12]}, the run has {wanted[:12]}); "
            "every worker needs the same shared folder, base model and weights"
        )
