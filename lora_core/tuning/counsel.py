"""Answers to what people ask after a round, each with the numbers that it rests on, or what is missing for it.

How many epochs are right for these photographs? Train longer, add photographs, or change the base? Halve the learning
rate, or stop? What would doing more cost? Tables of thumb (epochs by number of photographs, loss below 0.002) do not
hold across bases and objectives, so every answer comes from this study's own scores and losses. The sentences are a
function of the round's files; what differs from run to run, such as seconds, is `lora_core.tuning.costs`'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lora_core.experiment import Experiment
from lora_core.training.reading import Reading, read_curve
from lora_core.tuning.evidence import Scores
from lora_core.tuning.pruning import shares

MOST = 0.9
"""Share of the autoencoder's own composite beyond which the base, not the LoRA, is the limit."""

HARDLY = 0.01
"""A share of the base's loss that is no learning to speak of."""

RATE_ROUNDS = 3
"""Scored rounds of different learning rates without which the rates are not compared."""

Row = dict[str, Any]
_RATE = "training.learning_rate"


def counsel(
    experiment: Experiment,
    scores: Scores,
    done: Mapping[str, Any],
    log: Sequence[Row],
    earlier: Sequence[Row],
    written: float | None,
) -> list[str]:
    """Advice after a scored round, in whole sentences.

    Args:
        experiment: the round's, its changes applied.
        scores: its tables.
        done: `training/done.json`.
        log: rows of `training/log.jsonl`.
        earlier: the `result.json` of the rounds before.
        written: learning rate of the experiment as written, at which every round ran that does not change it; None:
            not known, such rounds do not count when rates are compared.
    """
    reading = read_curve(done.get("validations", []), log)
    points = _points_by_rate(earlier, written, experiment.training.learning_rate, scores.winner["composite"])
    return [
        _epochs(scores, done),
        _what_to_change(scores, done, reading),
        _rate(experiment, done, reading, points),
        _more(experiment, done),
    ]


def counsel_pruned(
    experiment: Experiment,
    done: Mapping[str, Any],
    log: Sequence[Row],
    earlier: Sequence[Row],
    written: float | None,
) -> list[str]:
    """The same after a round that was given up."""
    reading = read_curve(done.get("validations", []), log)
    points = _points_by_rate(earlier, written, experiment.training.learning_rate, None)
    sentences = [_rate(experiment, done, reading, points)]
    return [*sentences, _more(experiment, done)] if done["images"] else sentences


def _epochs(scores: Scores, done: Mapping[str, Any]) -> str:
    """How many epochs are right for this number of photographs."""
    curve, photos = scores.along("epoch"), f"{done['photos']} photographs"
    if len(curve) < 2:
        return (
            f"Epochs: how many are right for {photos} cannot be said from one checkpoint; "
            "lower training.checkpoint_every or raise training.epochs."
        )
    best = scores.peak(curve)
    other = curve[-2] if best == len(curve) - 1 else curve[-1]
    step, row = scores.difference(curve[best], other), curve[best]
    numbers = f"{step.mean:+.2f} points over epoch {other['epoch']}, where {step.noise:.2f} may be chance"
    if other is curve[-1]:
        verdict = "more is worse" if step.better else "more brings nothing clear"
        return f"Epochs: {row['epoch']} of {other['epoch']} are right for {photos}, {verdict} ({numbers})."
    if step.better:
        longer = f"try {2 * row['epoch']}"
        return f"Epochs: {row['epoch']} are too few for {photos}, the score still rises ({numbers}); {longer}."
    return f"Epochs: {row['epoch']} are enough for {photos}, the score no longer clearly rises ({numbers})."


def _what_to_change(scores: Scores, done: Mapping[str, Any], reading: Reading | None) -> str:
    """Train longer, add photographs, or change the base."""
    question = "Train longer, add photographs, or change the base"
    if reading is None:
        return f"{question}: without validations (monitoring.validation_photos) nothing tells."
    curve, share = scores.along("epoch"), shares(done["validations"])[-1][1]
    reached, ceiling = _reached(scores)
    numbers = f"validation loss {share:.1%} of the base's own, {reading.trend}; {reached}"
    if ceiling is not None and scores.winner["composite"] > MOST * ceiling:
        return f"{question}: the base, for a LoRA cannot pass its autoencoder ({numbers})."
    falls = len(curve) > 1 and scores.difference(curve[0], curve[-1]).better
    if reading.trend == "overfitting" or falls:
        return f"{question}: more photographs, these {done['photos']} are learnt by heart ({numbers})."
    if reading.trend == "falling" or (len(curve) > 1 and scores.difference(curve[-1], curve[-2]).better):
        return f"{question}: longer, before anything else ({numbers})."
    if reading.trend == "too short":
        return f"{question}: too few validations to say ({numbers})."
    if reading.trend == "unstable":
        return f"{question}: none of them yet, the loss does not settle; first the learning rate ({numbers})."
    return (
        f"{question}: longer will hardly help ({numbers}); a higher rank, other layers or another objective may, "
        "then more varied photographs, then another base."
    )


def _reached(scores: Scores) -> tuple[str, float | None]:
    """How far the winner got on the way to the base's autoencoder, in words, and the latter's points where above 0."""
    ceiling, points = scores.reference("autoencoder"), f"the winner has {scores.winner['composite']:+.2f} points"
    if ceiling is None or ceiling["composite"] <= 0:
        return points, None
    return f"{points}, the base's autoencoder lets {ceiling['composite']:+.2f} through", float(ceiling["composite"])


def _rate(
    experiment: Experiment, done: Mapping[str, Any], reading: Reading | None, points: Mapping[float, float]
) -> str:
    """Halve the learning rate, or stop; `points` are those of `_points_by_rate`."""
    rate, curve = experiment.training.learning_rate, [share for _, share in shares(done.get("validations", []))]
    if reading is None and done.get("pruned_because"):
        return f"Halve the learning rate: that is not enough, the loss broke down at once; try {rate / 10:.3g} or less."
    if reading is None:
        return "Halve the learning rate: without validations (monitoring.validation_photos) only other rates can tell."
    numbers = f"the validation loss is at {curve[-1]:.1%} of the base's own, its lowest was {min(curve):.1%}"
    if min(curve) > 1 - HARDLY and curve[-1] < 1 + HARDLY:
        return f"Halve the learning rate: no, it has hardly moved the loss; a higher one may learn more; {numbers}."
    if curve[-1] >= 1:
        return f"Halve the learning rate: to {rate / 2:.3g} or less, and stop this one; {numbers}."
    if reading.trend in ("unstable", "overfitting"):
        return f"Halve the learning rate: to {rate / 2:.3g}, or stop at epoch {reading.best:g}; {numbers}."
    if len(points) < RATE_ROUNDS:
        return (
            f"Halve the learning rate: nothing asks for it ({numbers}); to compare rates {RATE_ROUNDS} must be scored, "
            f"there are {len(points)}."
        )
    listed = ", ".join(f"{value:.3g}: {points[value]:+.2f}" for value in sorted(points))
    best = max(points, key=lambda value: points[value])
    verdict = f"lower ones did better, take {best:.3g}" if best < rate else f"{rate:.3g} is not too high"
    return f"Halve the learning rate: {verdict} (best points by rate: {listed}); {numbers}."


def _points_by_rate(
    earlier: Sequence[Row], written: float | None, rate: float, composite: float | None
) -> dict[float, float]:
    """The best composite of each learning rate that was scored."""
    scored = [result for result in earlier if result["winner"]]
    tried = [(result["changes"].get(_RATE, written), result["winner"]["composite"]) for result in scored]
    best: dict[float, float] = {}
    for value, points in [*tried, (rate, composite)]:
        if value is not None and points is not None:
            best[value] = max(points, best.get(value, points))
    return best


def _more(experiment: Experiment, done: Mapping[str, Any]) -> str:
    """What doing twice as much would take, in what can be counted."""
    epochs, every = experiment.training.epochs, experiment.training.checkpoint_every
    views, checkpoints = done["images"], len(done["checkpoints"])
    sizes = [row["bytes"] for row in done["checkpoints"] if "bytes" in row]
    disk = f" of {sizes[-1] / 2**20:.1f} MiB each" if sizes else ""
    return (
        f"Twice the epochs ({2 * epochs}) would see {2 * views:,} views instead of {views:,} and save "
        f"{-(-2 * epochs // every)} checkpoints{disk} instead of {checkpoints}, which the sweep restores one by one."
    )
