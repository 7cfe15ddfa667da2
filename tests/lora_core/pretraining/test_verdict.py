from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_core.pretraining.recipe import Recipe, change_recipe
from lora_core.pretraining.verdict import Evidence, judge


def flattening(low: float) -> Callable[[np.ndarray], np.ndarray]:
    """From 1 down to `low`, flat from the middle on."""
    return lambda t: low + (1 - low) * np.exp(-12 * t)


def falling(t: np.ndarray) -> np.ndarray:
    return 1 - 0.5 * t


def run(
    unseen: Callable[[np.ndarray], np.ndarray],
    trained: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    scale: float = 1.0,
    noise: float = 0.001,
    validations: int = 40,
    **facts: Any,
) -> Evidence:
    """A run of 200 epochs; the mean costs `scale`, so a scale must change nothing."""
    t = np.linspace(1 / validations, 1, validations)
    random = np.random.default_rng(0)

    def curve(shape: Callable[[np.ndarray], np.ndarray]) -> list[tuple[float, float]]:
        values = scale * (shape(t) + noise * random.standard_normal(validations))
        return list(zip((200 * t).tolist(), values.tolist(), strict=True))

    facts = {"photos": 60_000, "stopped": "complete", "mean_predictor": scale, "channels": (64, 96, 128)} | facts
    return Evidence(validation=curve(unseen), training=curve(trained or unseen), **facts)


CURVES: dict[str, dict[str, Any]] = {
    "train on": {"unseen": falling},
    "add photos": {"unseen": flattening(0.5), "trained": lambda t: flattening(0.5)(t) - 0.2 * t},
    "change the base": {"unseen": flattening(0.5)},
    "good": {"unseen": flattening(0.15)},
}


@pytest.mark.parametrize("scale", [0.004, 1.0, 30.0])
@pytest.mark.parametrize("kind", list(CURVES))
def test_each_curve_has_its_verdict_whatever_the_scale_of_its_loss(kind: str, scale: float) -> None:
    assert judge(run(**CURVES[kind], scale=scale)).kind == kind


def test_train_on_says_how_far() -> None:
    said = " ".join(judge(run(falling)).sentences)
    assert "50 % of what answering the mean would cost" in said.replace("\u00a0", " ")
    override = said.partition("training.epochs=")[2].partition(".")[0]
    epochs = change_recipe(Recipe(), [f"training.epochs={override}"]).training.epochs
    assert epochs is not None and 200 < epochs <= 400
    slower = judge(run(lambda t: 0.5 + 0.5 * np.exp(-4 * t), noise=0.0001))
    assert slower.kind == "train on"
    assert int(" ".join(slower.sentences).partition("about ")[2].partition(" more")[0]) < epochs - 200


def test_a_time_limit_is_what_to_raise_not_the_epochs() -> None:
    said = " ".join(judge(run(falling, stopped="time limit")).sentences)
    assert "training.time_limit" in said and "training.epochs" not in said


def test_a_gap_is_named_with_its_size_and_weighs_more_with_few_photographs() -> None:
    case = CURVES["add photos"]
    said = judge(run(**case)).sentences[1].replace("\u00a0", " ")
    assert "cost 18 % of the mean's loss more than trained ones, after 7.7 %" in said
    many, few = (" ".join(judge(run(**case, photos=photos)).sentences) for photos in (60_000, 5_000))
    assert "learns its 60,000 photographs by heart" in many and "quick test" not in many
    assert "Fewer than 10,000 are a quick test" in few
    both = judge(run(falling, lambda t: falling(t) - 0.2 * t))
    assert both.kind == "train on" and "by heart" in " ".join(both.sentences)


def test_a_growing_gap_on_a_flat_curve_is_memorising_though_small() -> None:
    assert judge(run(flattening(0.5), lambda t: flattening(0.5)(t) - 0.048 * t)).kind == "add photos"
    assert judge(run(flattening(0.5), lambda t: flattening(0.5)(t) - 0.04)).kind == "change the base"
    assert judge(run(flattening(0.5), lambda t: flattening(0.5)(t) + 0.1 - 0.1 * t)).kind == "change the base"


def test_a_rise_is_memorising_even_where_trained_photographs_were_not_measured() -> None:
    rising = run(lambda t: flattening(0.4)(t) + 0.2 * t)
    assert judge(replace(rising, training=())).kind == "add photos"
    assert "became 8.0" in judge(replace(rising, training=())).sentences[1]


def test_noise_is_no_fall() -> None:
    assert judge(run(flattening(0.5), noise=0.03)).kind == "change the base"


def test_at_its_limit_the_next_width_is_a_valid_setting() -> None:
    said = " ".join(judge(run(**CURVES["change the base"])).sentences)
    override = said[said.index("unet.channels=") : said.index("]") + 1]
    assert change_recipe(Recipe(), [override]).unet.channels == (96, 144, 192)
    assert "unet.config" in " ".join(judge(run(**CURVES["change the base"], channels=())).sentences)
    assert "training.patience" in " ".join(judge(run(**CURVES["change the base"], stopped="plateau")).sentences)


def test_a_continued_base_is_compared_with_what_it_was() -> None:
    better, worse = (judge(run(flattening(0.5), base=base)) for base in (0.6, 0.5))
    assert better.kind == "good" and "it has fallen by 17" in " ".join(better.sentences)
    assert worse.kind == "change the base" and "has not improved the base" in " ".join(worse.sentences)


def test_a_few_validations_are_not_judged() -> None:
    verdict = judge(run(flattening(0.1), validations=3))
    assert verdict.kind == "train on" and "too few" in verdict.sentences[1]
