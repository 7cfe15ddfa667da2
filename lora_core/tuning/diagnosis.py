"""The diagnosis: what a round's own tables and curves say, in words, and where they advise to look next.

A score counts only above its noise, which the test photographs themselves show (`evidence`); the loss is compared with
nothing but itself, because its scale depends on objective, timesteps and weighting. Each check answers one question.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lora_core.experiment import Experiment
from lora_core.tuning.evidence import LOSS_ROWS, LossCurve, Row, Scores
from lora_core.tuning.pruning import shares

Advised = dict[str, dict[str, Any]]

DIVERGED = 1.10
"""A loss this many times its own earlier level is rising; less is within what the mix of timesteps does."""

UNCHANGED = 0.02
"""A fall of the loss by less than this share is none: an adapter that learns moves its own loss more."""

FLAT = 0.5
"""The loss has flattened when its last third certainly falls at less than this share of the run's mean rate."""

RATE_STEP = 10.0
"""Learning rates are searched by decades; a rate that does nothing or destroys is wrong by that order."""


@dataclass(frozen=True)
class Finding:
    """One thing that the round says.

    Attributes:
        code: its name, for example "still-improving".
        says: a sentence or two for a person, with the numbers.
        advice: dotted experiment key to {"low": ..., "high": ...}, or {"choices": [...]} for words; may be empty.
    """

    code: str
    says: str
    advice: Advised = field(default_factory=dict)


@dataclass(frozen=True)
class _Round:
    """All that a check looks at."""

    experiment: Experiment
    scores: Scores
    loss: LossCurve | None
    done: dict[str, Any]


def diagnose(
    experiment: Experiment,
    table: pl.DataFrame,
    photo_table: pl.DataFrame,
    train_log: Sequence[dict[str, Any]],
    done: dict[str, Any],
) -> list[Finding]:
    """Reads a round.

    Args:
        experiment: the round's experiment, its changes applied.
        table: `scores.parquet`, one row a cell or reference.
        photo_table: `scores_by_photo.parquet`.
        train_log: rows of `training/log.jsonl`; fewer than `LOSS_ROWS` are not judged.
        done: `training/done.json`.

    Returns:
        The findings, most decisive first; "nothing-wrong" alone where there is none.

    Raises:
        DataError: the table holds no LoRA cell or no degraded input.
    """
    scores = Scores(experiment, table, photo_table)
    loss = LossCurve(train_log) if len(train_log) >= LOSS_ROWS else None
    round_ = _Round(experiment, scores, loss, done)
    findings = [finding for check in _CHECKS if (finding := check(round_)) is not None]
    return findings or [Finding("nothing-wrong", f"Nothing stands out; the best is {_cell(scores.winner)}.")]


def diagnose_pruned(experiment: Experiment, done: dict[str, Any]) -> list[Finding]:
    """Reads a round that was given up: its reason, and which way the learning rate should go.

    Args:
        experiment: the round's experiment, its changes applied.
        done: `training/done.json`, with "pruned_because" and "validations".
    """
    rate, curve = experiment.training.learning_rate, [share for _, share in shares(done["validations"])]
    harmful = not curve or not math.isfinite(curve[-1]) or curve[-1] > 1 + UNCHANGED
    lower = {"low": rate / RATE_STEP, "high": rate / 2}
    higher = {"low": min(1.0, 2 * rate), "high": min(1.0, RATE_STEP * rate)}
    advice = {"training.learning_rate": lower if harmful else higher}
    word = "high" if harmful else "low"
    says = f"{done['pruned_because']} A learning rate of {rate:.3g} seems too {word}."
    return [Finding("given-up", says, advice)]


def _loss_diverged(round_: _Round) -> Finding | None:
    loss, rate = round_.loss, round_.experiment.training.learning_rate
    if loss is None:
        return None
    advice = {"training.learning_rate": {"low": rate / RATE_STEP, "high": rate / 2}}
    if not loss.finite:
        says = f"The loss is no number any more; a learning rate of {rate:.3g} is too high."
        return Finding("loss-diverged", says, advice)
    start = loss.last - loss.rise.mean
    if not loss.rise.better or loss.last < DIVERGED * start:
        return None
    says = f"The loss rises from {start:.4g} to {loss.last:.4g}; a learning rate of {rate:.3g} is too high."
    return Finding("loss-diverged", says, advice)


def _does_not_beat_input(round_: _Round) -> Finding | None:
    scores, sweep = round_.scores, round_.experiment.sweep
    assert scores.input is not None
    difference = scores.difference(scores.winner, scores.input)
    if difference.better:
        return None
    says = (
        f"The best, {_cell(scores.winner)}, does not clearly beat the degraded input: "
        f"{difference.mean:+.2f} points, where {difference.noise:.2f} may be chance."
    )
    advice: Advised = {}
    if round_.experiment.objective.kind == "denoise":
        says += " It was trained on clean photographs alone and never saw what to undo."
        advice["objective.kind"] = {"choices": ["direct", "bridge"]}
    if min(sweep.start_noises) > 0:
        says += " Every cell starts with noise, which hides the input; try less."
        advice["sweep.start_noises"] = {"low": 0.0, "high": min(sweep.start_noises)}
    return Finding("does-not-beat-input", says, advice)


def _learning_rate_too_low(round_: _Round) -> Finding | None:
    loss, rate, scores = round_.loss, round_.experiment.training.learning_rate, round_.scores
    if loss is None or not loss.finite or loss.rise.better:
        return None
    bare = scores.base
    learnt = loss.fall.better and loss.fall.mean > UNCHANGED * loss.first
    if learnt or (bare is not None and scores.difference(scores.winner, bare).better):
        return None
    says = (
        f"The loss goes from {loss.first:.4g} to {loss.last:.4g}, hardly a fall, and the pictures are not clearly "
        f"better than those of the base without a LoRA: a learning rate of {rate:.3g} is too low."
    )
    higher = {"low": 2 * rate, "high": min(1.0, RATE_STEP * rate)}
    return Finding("learning-rate-too-low", says, {"training.learning_rate": higher})


def _does_not_beat_classical(round_: _Round) -> Finding | None:
    scores = round_.scores
    if scores.classical is None:
        return None
    difference = scores.difference(scores.winner, scores.classical)
    if difference.better:
        return None
    says = (
        f"The best, {_cell(scores.winner)}, does not clearly beat {scores.classical['name']}, which needs no training: "
        f"{difference.mean:+.2f} points, where {difference.noise:.2f} may be chance."
    )
    return Finding("does-not-beat-classical", says)


def _autoencoder_ceiling(round_: _Round) -> Finding | None:
    scores, detail_returns = round_.scores, round_.experiment.sweep.detail_returns
    ceiling = scores.reference("autoencoder")
    assert scores.input is not None
    if ceiling is None or ceiling["psnr_y"] >= scores.input["psnr_y"]:
        return None
    says = (
        f"The originals themselves keep {ceiling['psnr_y']:.2f} dB through the autoencoder, less than the "
        f"{scores.input['psnr_y']:.2f} dB of the degraded input: only detail return can make up for that "
        f"(the winner returns {scores.winner['detail_return']:g})."
    )
    missing = max(detail_returns) == 0
    return Finding("autoencoder-ceiling", says, {"sweep.detail_returns": {"low": 0.0, "high": 1.0}} if missing else {})


def _overfitting(round_: _Round) -> Finding | None:
    curve = round_.scores.along("epoch")
    best = round_.scores.peak(curve)
    difference = round_.scores.difference(curve[best], curve[-1])
    if best == len(curve) - 1 or not difference.better:
        return None
    epoch, following = curve[best]["epoch"], curve[best + 1]["epoch"]
    training, rank = round_.experiment.training, round_.experiment.adapter.rank
    says = (
        f"Epoch {epoch} is best and epoch {curve[-1]['epoch']} is {difference.mean:.2f} points worse "
        f"({difference.noise:.2f} may be chance): the adapter overfits; train shorter, slower, or with a lower rank."
    )
    advice = {
        "training.epochs": {"low": max(1, epoch // 2), "high": max(epoch, (epoch + following) // 2)},
        "training.learning_rate": {"low": training.learning_rate / RATE_STEP, "high": training.learning_rate},
        "adapter.rank": {"low": max(1, rank // 4), "high": rank},
    }
    return Finding("overfitting", says, advice)


def _still_improving(round_: _Round) -> Finding | None:
    curve = round_.scores.along("epoch")
    if len(curve) < 2 or round_.scores.peak(curve) < len(curve) - 1:
        return None
    difference = round_.scores.difference(curve[-1], curve[-2])
    if not difference.better:
        return None
    says = (
        f"The last checkpoint, epoch {curve[-1]['epoch']}, is the best and {difference.mean:.2f} points above "
        f"epoch {curve[-2]['epoch']} ({difference.noise:.2f} may be chance): longer training should give more."
    )
    if round_.done["stopped"] == "time limit":
        return Finding("still-improving", f"{says} It was stopped by training.time_limit; raise that.")
    epochs = round_.experiment.training.epochs
    return Finding("still-improving", says, {"training.epochs": {"low": epochs, "high": 2 * epochs}})


def _lowest_strength_best(round_: _Round) -> Finding | None:
    ladder = round_.scores.along("strength")
    if not _edge_is_best(round_.scores, ladder, 0):
        return None
    strength = ladder[0]["strength"]
    says = (
        f"The lowest strength, {strength:g}, is best ({_over(round_.scores, ladder, 0, 'strength')}): "
        "the LoRA is not trusted further. "
        "Either the best lies lower still, or the adapter is too weak."
    )
    return Finding("lowest-strength-best", says, {"sweep.strengths": {"low": strength / 4, "high": strength}})


def _highest_strength_best(round_: _Round) -> Finding | None:
    ladder = round_.scores.along("strength")
    strength = ladder[-1]["strength"]
    if strength >= 1 or not _edge_is_best(round_.scores, ladder, -1):
        return None
    says = (
        f"The highest strength, {strength:g}, is best ({_over(round_.scores, ladder, -1, 'strength')}): "
        "the best may lie beyond the grid."
    )
    beyond = {"low": strength, "high": min(1.0, 2 * strength)}
    return Finding("highest-strength-best", says, {"sweep.strengths": beyond})


def _detail_return_edge(round_: _Round) -> Finding | None:
    ladder = round_.scores.along("detail_return")
    for end, neighbour in ((0, 1), (-1, -2)):
        value = ladder[end]["detail_return"]
        if value in (0.0, 1.0) and _edge_is_best(round_.scores, ladder, end):
            inner = ladder[neighbour]["detail_return"]
            dropped = "what the autoencoder drops from the input"
            meaning = f"{dropped} is mostly damage" if value == 0 else f"all of {dropped} helps"
            says = (
                f"Detail return is best at {value:g} ({_over(round_.scores, ladder, end, 'detail_return')}): "
                f"{meaning}. Values between were not tried."
            )
            low, high = sorted((value, inner))
            return Finding("detail-return-edge", says, {"sweep.detail_returns": {"low": low, "high": high}})
    return None


def _residual(round_: _Round) -> Finding | None:
    fidelity, perception = round_.scores.gain("psnr_y"), round_.scores.gain("perceptual")
    sweep, winner = round_.experiment.sweep, round_.scores.winner
    numbers = f"PSNR-Y changes by {fidelity.mean:+.2f} dB and the perceptual distance by {-perception.mean:+.0%}"
    if fidelity.better and perception.worse:
        advice: Advised = {
            "sweep.steps": {"low": max(sweep.steps), "high": 4 * max(sweep.steps)},
            "sweep.start_noises": {"low": 0.0, "high": max(0.5, *sweep.start_noises)},
        }
        says = f"{numbers}: the result is too smooth; more steps or some start noise sharpen it."
        return Finding("residual-blur", says, advice)
    if fidelity.worse and perception.better:
        noise = winner["start_noise"]
        remedy = "less start noise is" if noise > 0 else "fewer steps are"
        says = f"{numbers}: texture is invented or noise is left; {remedy} more faithful."
        less = {"sweep.start_noises": {"low": 0.0, "high": noise}}
        return Finding("residual-noise", says, less if noise > 0 else {})
    return None


def _loss_plateau(round_: _Round) -> Finding | None:
    loss = round_.loss
    if loss is None or not loss.finite or not loss.fall.better or _still_improving(round_) is not None:
        return None
    slope = loss.end_slope
    # Both: indistinguishable from level, and measured well enough to exclude that it goes on falling as before.
    if abs(slope.mean) > slope.noise or slope.mean - slope.noise < FLAT * loss.mean_slope:
        return None
    span = math.ceil(loss.images[-1] / 3)
    says = (
        f"Over the last {span} views the loss changes by {slope.mean * span:+.2g} (± {slope.noise * span:.2g}), after "
        f"a fall from {loss.first:.4g} to {loss.last:.4g}: longer training with these settings will hardly help."
    )
    return Finding("loss-plateau", says)


def _edge_is_best(scores: Scores, ladder: Sequence[Row], end: int) -> bool:
    """Whether the winner sits on this end (0 or -1) of an axis and its neighbour there is clearly worse."""
    if len(ladder) < 2 or ladder[end]["id"] != scores.winner["id"]:
        return False
    return scores.difference(ladder[end], ladder[1 if end == 0 else -2]).better


def _over(scores: Scores, ladder: Sequence[Row], end: int, axis: str) -> str:
    """How far an end of an axis is above its neighbour, on the photographs that both have."""
    neighbour = ladder[1 if end == 0 else -2]
    points = scores.difference(ladder[end], neighbour).mean
    return f"{ladder[end]['composite']:+.2f} points, {points:+.2f} over {neighbour[axis]:g}"


def _cell(row: Row) -> str:
    points = f"{row['composite']:+.2f} points over {row['photos']} photographs"
    return f"{row['name']} at strength {row['strength']:g} ({points})"


_CHECKS: tuple[Callable[[_Round], Finding | None], ...] = (
    _loss_diverged,
    _does_not_beat_input,
    _learning_rate_too_low,
    _does_not_beat_classical,
    _overfitting,
    _still_improving,
    _lowest_strength_best,
    _highest_strength_best,
    _autoencoder_ceiling,
    _detail_return_edge,
    _residual,
    _loss_plateau,
)
