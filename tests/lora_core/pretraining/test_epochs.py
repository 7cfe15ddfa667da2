from itertools import pairwise

import pytest

from lora_core.pretraining.epochs import MOST_EPOCHS, advised_epochs, data_advice


@pytest.mark.parametrize(
    ("photos", "low", "high"),
    [(5_000, 500, 800), (10_000, 300, 500), (50_000, 200, 300), (100_000, 150, 250), (120_000, 150, 250)],
)
def test_the_guides_table_at_its_points(photos: int, low: int, high: int) -> None:
    advice = advised_epochs(photos)
    assert (advice.low, advice.high, advice.recommended) == (low, high, (low + high) / 2)
    assert "by heart" not in advice.words


def test_lines_in_the_logarithm_between_and_below() -> None:
    geometric_middle = advised_epochs(round((10_000 * 50_000) ** 0.5))
    assert (geometric_middle.low, geometric_middle.high) == (250, 400)
    half = advised_epochs(2_500)  # one more halving of 10,000 to 5,000
    assert (half.low, half.high) == (700, 1_100)
    assert "by heart" in half.words and "2,500 photographs: 700 to 1100 epochs" in half.words


def test_more_photographs_never_need_more_epochs_and_the_number_is_capped() -> None:
    advices = [advised_epochs(photos) for photos in (1, 10, 100, 1_000, 4_999, 5_001, 9_999, 49_999, 99_999, 10**7)]
    for one, following in pairwise(advices):
        assert MOST_EPOCHS >= one.high >= following.high and one.low >= following.low
        assert one.low <= one.recommended <= one.high
    with pytest.raises(ValueError, match="0 photographs"):
        advised_epochs(0)


@pytest.mark.parametrize(
    ("photos", "words"),
    [(9_999, "quick test"), (10_000, "fair beginning"), (50_000, "recommended range"), (100_001, "best result")],
)
def test_amount_of_data(photos: int, words: str) -> None:
    assert words in data_advice(photos)
