"""How many epochs and how many photographs: the advice of the project's guide as code.

The guide's table (5,000 photographs: 500 to 800 epochs; 10,000: 300 to 500; 50,000: 200 to 300; 100,000 and more: 150
to 250) is experience with diffusion models of about 256 pixels, not a law: the plateau rule (`plateau`) ends a run
that gets nothing from more.
"""

import math
from dataclasses import dataclass

TABLE = ((5_000, 500, 800), (10_000, 300, 500), (50_000, 200, 300), (100_000, 150, 250))
"""(photographs, fewest epochs, most epochs), rising in photographs."""

MOST_EPOCHS = 2_000
"""What the continuation below the table never exceeds."""

QUICK_TEST, RECOMMENDED, NEAR_BEST = 10_000, 50_000, 100_000
"""Photographs: below the first only a quick test, from the second recommended, above the third near the best."""


@dataclass(frozen=True)
class EpochAdvice:
    """Passes over the training photographs.

    Attributes:
        low, high: the advised range.
        recommended: its middle, to the next ten.
        words: the advice as a sentence.
    """

    low: int
    high: int
    recommended: int
    words: str


def advised_epochs(photos: int) -> EpochAdvice:
    """Epochs for so many training photographs: the guide's table, straight lines in log(photographs) between.

    Below 5,000 the first line is continued, at most to `MOST_EPOCHS`; above 100,000 the last row holds.

    Raises:
        ValueError: fewer than one photograph.
    """
    if photos < 1:
        raise ValueError(f"advice on {photos} photographs")
    low, high = _between(photos)
    recommended = round((low + high) / 20) * 10
    words = f"{photos:,} photographs: {low} to {high} epochs are advised, {recommended} are taken."
    if photos < TABLE[0][0]:
        words += (
            " So few photographs are learnt by heart in so many passes: the guide has no numbers below "
            f"{TABLE[0][0]:,}, these continue its line, and the validation loss will tell when to stop."
        )
    return EpochAdvice(low, high, recommended, words)


def _between(photos: int) -> tuple[int, int]:
    if photos >= TABLE[-1][0]:
        return TABLE[-1][1:]
    segment = next(place for place in range(len(TABLE) - 1) if photos < TABLE[place + 1][0])
    (few, *first), (many, *second) = TABLE[segment], TABLE[segment + 1]
    share = math.log(photos / few) / math.log(many / few)  # below 0 for fewer than the table's first row
    low, high = (min(MOST_EPOCHS, round(a + share * (b - a))) for a, b in zip(first, second, strict=True))
    return low, high


def data_advice(photos: int) -> str:
    """What the guide says about an amount of photographs, as a sentence."""
    if photos < QUICK_TEST:
        return f"{photos:,} photographs are enough for a quick test; a base wants {RECOMMENDED:,} to {NEAR_BEST:,}."
    if photos < RECOMMENDED:
        return f"{photos:,} photographs are a fair beginning; {RECOMMENDED:,} to {NEAR_BEST:,} are recommended."
    if photos <= NEAR_BEST:
        return f"{photos:,} photographs are in the recommended range; more than {NEAR_BEST:,} come near the best."
    return f"{photos:,} photographs are as many as the guide asks for the best result."
