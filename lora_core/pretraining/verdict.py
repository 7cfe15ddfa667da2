"""What to do after a training: train on, add photographs, change the base, or nothing.

The guide's stopping losses (0.001 to 0.003) cannot be used: the level of a diffusion loss depends on what the UNet
predicts (noise or velocity), on the scale of the latents and on how the timesteps are drawn, so the same number means a
good model in one recipe and an unlearnt one in another. A loss is therefore only compared with this run's own: what
answering the mean would cost, what the base cost before it was trained further, and the earlier losses of the curve.

The losses of unseen and of trained photographs must be measured alike (same timesteps, same noise, same weights);
the loss of the training step is not, because it draws other timesteps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FEWEST = 6
"""Validations below which a curve is not judged."""

FALLING = 0.01
"""The loss still falls when the last quarter of the curve lowers it by more than this share, and more than chance."""

NOISE = 3.0
"""Standard errors of a slope that count as chance: a quarter of a curve is few points."""

GAP = 0.05
"""A loss on unseen photographs so much above that on trained ones, as a share of the mean's loss, is memorising."""

WIDENING = 0.02
"""Growth of that gap over the second half that is memorising too, where the unseen photographs gain nothing more."""

FEW_PHOTOS = 10_000
"""The guide's least number for more than a quick test."""

GOOD = 0.25
"""Share of the mean's loss below which a flat curve is a success; how low it can get depends on the timesteps."""

BETTER_THAN_BASE = 0.02
"""Relative fall below the loss before training that is an improvement."""

Kind = Literal["train on", "add photos", "change the base", "good"]
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Evidence:
    """A finished run.

    Attributes:
        validation: (epoch, loss on unseen photographs), epochs rising; at least one.
        training: (epoch, loss on trained photographs), measured alike; without it only a rise shows memorising.
        photos: training photographs.
        stopped: why the run ended.
        mean_predictor: loss of always answering the mean, above 0.
        base: loss before training where the run continued a base, else None.
        channels: widths of the UNet, for the advice of a larger one; empty where it has a configuration of its own.
    """

    validation: Curve
    training: Curve
    photos: int
    stopped: Literal["complete", "plateau", "time limit"]
    mean_predictor: float
    base: float | None = None
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What to do next.

    Attributes:
        kind: the advice in a word or three.
        sentences: the reasons with their numbers, most important first.
    """

    kind: Kind
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Trend:
    """The last quarter of the validation curve: its length in epochs, its relative fall and what may be chance."""

    epochs: float
    fall: float
    chance: float

    @property
    def falling(self) -> bool:
        return self.fall > max(FALLING, self.chance)

    @property
    def rising(self) -> bool:
        return -self.fall > max(FALLING, self.chance)


def judge(run: Evidence) -> Verdict:
    """The verdict on a run, from its curves and its own references.

    A curve that still falls is trained on first, whatever else is true: that costs nothing but time. Then a gap
    between trained and unseen photographs asks for more of them; a flat curve without a gap is the capacity of the
    model. A schedule that ends at rate zero flattens every curve, which is why a whole quarter is looked at.
    """
    if len(run.validation) < FEWEST:
        seen = f"{len(run.validation)} validation{'s' if len(run.validation) > 1 else ''}"
        says = f"{seen} are too few to judge a curve by; {FEWEST} are needed. {_train_on(run, _last_epoch(run))}"
        return Verdict("train on", (_level(run), says, *_against_base(run)))
    trend, memorising = _trend(run.validation), _memorising(run)
    if trend.falling:
        return Verdict("train on", (_level(run), _still_falling(run, trend), *_against_base(run), *memorising))
    if memorising:
        return Verdict("add photos", (_level(run), *memorising, _flat(run, trend), *_against_base(run)))
    capacity = (_level(run), _flat(run, trend), *_against_base(run))
    if _improved(run):
        return Verdict("good", (*capacity, f"To go further, {_larger(run)}."))
    heart = "Nothing is learnt by heart" if run.training else "Unseen photographs do not become costlier"
    limit = f"{heart} either, so the model is at its limit: {_larger(run)}."
    return Verdict("change the base", (*capacity, limit))


def _level(run: Evidence) -> str:
    best = min(loss for _, loss in run.validation)
    epoch = next(epoch for epoch, loss in run.validation if loss == best)
    share = _share(best / run.mean_predictor)
    return (
        f"On unseen photographs the loss is {best:.4g} at best (epoch {epochs_words(epoch)}), {share} of what "
        f"answering the mean would cost ({run.mean_predictor:.4g})."
    )


def _trend(curve: Curve) -> _Trend:
    """A straight line through the last quarter, least squares; its standard error is the chance in its slope."""
    rows = curve[-max(FEWEST, math.ceil(len(curve) / 4)) :]
    epochs, losses = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    slope, offset = np.polyfit(epochs, losses, 1)
    spread = np.sqrt(np.square(losses - slope * epochs - offset).sum() / (len(rows) - 2))
    error = spread / np.sqrt(np.square(epochs - epochs.mean()).sum())
    length = float(epochs[-1] - epochs[0])
    return _Trend(length, float(-slope * length / losses.mean()), float(NOISE * error * length / losses.mean()))


def _still_falling(run: Evidence, trend: _Trend) -> str:
    more = _epochs_worth(run.validation, trend)
    over = f"Over the last {epochs_words(trend.epochs)} epochs the loss on unseen photographs still fell"
    return (
        f"{over} by {_share(trend.fall)}, {_share(trend.fall / trend.epochs, 2)} an epoch: about {more} more epochs "
        f"may be worth it. {_train_on(run, more)}"
    )


def _epochs_worth(curve: Curve, trend: _Trend) -> int:
    """Epochs until a stretch as long as the last quarter falls by less than `FALLING`.

    Each such stretch is taken to fall as much less than the one before as the last fell less than its forerunner; at
    most as many epochs again as there were, because nothing farther can be foreseen.
    """
    rows = max(FEWEST, math.ceil(len(curve) / 4))
    before = _trend(curve[:-rows]).fall if len(curve) - rows >= FEWEST else math.inf
    ratio = trend.fall / before if before > trend.fall else 1.0
    whole = curve[-1][0]
    stretches = math.log(FALLING / trend.fall) / math.log(ratio) if 0 < ratio < 1 else math.inf
    return math.ceil(min(whole, max(1.0, stretches) * trend.epochs))


def _train_on(run: Evidence, more: float) -> str:
    if run.stopped == "time limit":
        return "training.time_limit stopped it: raise that and start the same command again, it goes on where it was."
    epochs = math.ceil(_last_epoch(run) + more)
    epochs = epochs if epochs < 50 else 10 * math.ceil(epochs / 10)
    return f"The next run, in a new folder with --resume and this one's base: training.epochs={epochs}."


def _memorising(run: Evidence) -> tuple[str, ...]:
    """A sentence on a gap that is large or grows, or on a loss that rises again; none where there is neither."""
    sign = _gap(run) or _rise(run)
    if sign is None:
        return ()
    says = (
        f"{sign}: the model learns its {run.photos:,} photographs by heart, and more of them (data.path) help "
        "more than more epochs."
    )
    if run.photos < FEW_PHOTOS:
        says += f" Fewer than {FEW_PHOTOS:,} are a quick test; 50,000 to 100,000 are recommended."
    return (says,)


def _gap(run: Evidence) -> str | None:
    trained = dict(run.training)
    gaps = [(loss - trained[epoch]) / run.mean_predictor for epoch, loss in run.validation if epoch in trained]
    if len(gaps) < FEWEST:
        return None
    tail = max(1, len(gaps) // 4)
    last, middle = float(np.mean(gaps[-tail:])), float(np.mean(gaps[len(gaps) // 2 - tail : len(gaps) // 2]))
    grows = last - middle > WIDENING
    if last <= GAP and not (last > WIDENING and grows and not _trend(run.validation).falling):
        return None
    growth = f", after {_share(middle)} in the middle of the run" if grows else ""
    return f"Unseen photographs cost {_share(last)} of the mean's loss more than trained ones{growth}"


def _rise(run: Evidence) -> str | None:
    trend = _trend(run.validation)
    if not trend.rising:
        return None
    return f"Over the last {epochs_words(trend.epochs)} epochs unseen photographs became {_share(-trend.fall)} costlier"


def _flat(run: Evidence, trend: _Trend) -> str:
    ended = " (training.patience ended the run)" if run.stopped == "plateau" else ""
    moved = f"{'fell' if trend.fall > 0 else 'rose'} by {_share(abs(trend.fall))}"
    doubt = f" (± {_share(trend.chance)})" if trend.chance > FALLING else ""
    if not doubt and abs(trend.fall) <= FALLING:
        moved = f"moved by less than {_share(FALLING)}"
    over = f"Over the last {epochs_words(trend.epochs)} epochs the loss on unseen photographs {moved}{doubt}"
    return f"{over}: more epochs will hardly help{ended}."


def _against_base(run: Evidence) -> tuple[str, ...]:
    if run.base is None:
        return ()
    best = min(loss for _, loss in run.validation)
    fall = 1 - best / run.base
    if fall > BETTER_THAN_BASE:
        return (f"Before training the loss was {run.base:.4g}: it has fallen by {_share(fall)}.",)
    return (
        f"This training has not improved the base: its loss was {run.base:.4g} before and is {best:.4g} now; "
        "as it was it serves no worse.",
    )


def _improved(run: Evidence) -> bool:
    best = min(loss for _, loss in run.validation)
    if run.base is not None:
        return best < run.base * (1 - BETTER_THAN_BASE)
    return best <= GOOD * run.mean_predictor


def _larger(run: Evidence) -> str:
    if not run.channels:
        return "train a larger UNet (unet.channels or unet.config) or continue another base (resume)"
    wider = [16 * math.ceil(1.5 * width / 16) for width in run.channels]  # 16 groups share a normalisation
    return f"widen the UNet (unet.channels=[{','.join(map(str, wider))}]) or continue another base (resume)"


def _last_epoch(run: Evidence) -> float:
    return run.validation[-1][0]


def epochs_words(epochs: float) -> str:
    """Epochs to a tenth: 12 or 12.5; an update that spans the end of an epoch makes them no whole numbers."""
    return f"{round(epochs, 1):g}"


def _share(value: float, decimals: int = 1) -> str:
    """38 %, or 7.4 % below ten."""
    return f"{100 * value:.{0 if abs(value) >= 0.0995 else decimals}f}\u00a0%"
