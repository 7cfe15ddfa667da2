"""Numbers and settings as a person reads them: units, real minus signs, as many digits as mean something."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lora_core.judging import HumanScore

MISSING = "–"
SPACE = "\u00a0"
"""Between a number and its unit: no line break."""


def number(value: float | None, decimals: int) -> str:
    """A number with so many decimals, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    rounded = round(value, decimals)
    return f"{rounded + 0.0:.{decimals}f}".replace("-", "−")


def signed(value: float | None, decimals: int) -> str:
    """As `number`, with a plus sign before a gain; what rounds to zero has no sign."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and text != MISSING and round(value, decimals) > 0 else text


def plain(value: Any) -> str:
    """A setting: 0.0002, 16, direct, yes, (0.1, 0.2)."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−") if 1e-4 <= abs(value) < 1e6 or value == 0 else _scientific(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value)
    return str(value)


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", "−")


def percent(share: float) -> str:
    """12 %, or 7.4 % below ten; without a sign."""
    value = abs(share) * 100
    return f"{value:.{0 if value >= 9.95 else 1}f}{SPACE}%"


def counted(count: int, noun: str) -> str:
    """`1 photograph`, `12 photographs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(parts: list[str], last: str = "and") -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""


def gain_phrases(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """How a candidate differs from the input for the better and for the worse, in clauses with units.

    Args:
        row: a row of the score table.
    """
    better: list[str] = []
    worse: list[str] = []
    for gain, name, size in (
        (row["gain_psnr_y"], "PSNR-Y", f"{number(abs(row['gain_psnr_y']), 2)}{SPACE}dB"),
        (row["gain_ssim_y"], "SSIM-Y", number(abs(row["gain_ssim_y"]), 3)),
    ):
        (better if gain > 0 else worse).append(f"{name} {'rises' if gain > 0 else 'falls'} by {size}")
    distance = row["gain_perceptual"]
    clause = f"the {row['perceptual_name']} distance {'falls' if distance > 0 else 'rises'} by {percent(distance)}"
    (better if distance > 0 else worse).append(clause)
    return better, worse


_USUAL = {"lora_scale": 1.0, "colour_fix": "none", "sampler": "ddim", "guidance_scale": 1.0, "seed": 0}
"""Settings that are only spoken of where they differ from these."""
SETTING_NAMES = {
    "epoch": "checkpoint",
    "strength": "denoise strength",
    "start_noise": "start noise",
    "steps": "steps",
    "detail_return": "detail return",
    "lora_scale": "LoRA scale",
    "colour_fix": "colour fix",
    "sampler": "sampler",
    "guidance_scale": "guidance scale",
    "seed": "seed",
}
"""The settings of a cell, as axes of the grid, in words."""


def inference_phrase(row: Mapping[str, Any]) -> str:
    """The settings of a cell in one line; the usual value of a rare setting is not spoken of."""
    parts = [
        "base without LoRA" if row["epoch"] is None else f"epoch {row['epoch']}",
        f"strength {plain(row['strength'])}",
        f"start noise {plain(row['start_noise'])}",
        counted(row["steps"], "step"),
        f"detail return {plain(row['detail_return'])}",
    ]
    rare = [key for key, usual in _USUAL.items() if row.get(key) not in (None, usual)]
    return ", ".join([*parts, *(f"{SETTING_NAMES[key]} {plain(row[key])}" for key in rare)])


def differing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which these cells are not all the same."""
    return [key for key in SETTING_NAMES if len({row[key] for row in rows}) > 1]


def telling_phrase(row: Mapping[str, Any], varied: Sequence[str]) -> str:
    """What tells a row from the others and no more, so that it fits on a telephone.

    Args:
        row: a row of the score table.
        varied: the settings that tell the LoRA cells apart (`differing`).
    """
    if row["kind"] != "lora":
        return str(row["name"])
    others = [f"{SETTING_NAMES[key]} {plain(row[key])}" for key in varied if key != "epoch"]
    return ", ".join([f"epoch {row['epoch']}", *others])


def chance(p: float) -> str:
    """`p = 0.03`, with two digits, or `p < 0.0001`."""
    if p < 1e-4:
        return f"p{SPACE}<{SPACE}0.0001"
    return f"p{SPACE}={SPACE}{p:.2g}" if p < 0.995 else f"p{SPACE}={SPACE}1"


def preference(score: HumanScore) -> str:
    """What people preferred, in a sentence or two."""
    says = (
        f"People preferred the best LoRA to {score.rival_name} in {score.wins} of "
        f"{counted(score.comparisons, 'comparison')} ({score.losses} the other way, {score.ties} without a difference; "
        f"{counted(score.judges, 'judge')})"
    )
    share, interval, p = score.share, score.interval(), score.p()
    if share is None or interval is None or p is None:
        return f"{says}."
    low, high = (f"{100 * value:.0f}" for value in interval)
    return (
        f"{says}: {100 * share:.0f}{SPACE}% of those decided, 95{SPACE}% interval {low} to {high}{SPACE}%, {chance(p)}."
    )


def advice_phrase(advice: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(experiment key, range in words) for each key a diagnosis speaks of."""
    return [(key, _range_words(bounds)) for key, bounds in advice.items()]


def _range_words(bounds: Mapping[str, Any]) -> str:
    if "choices" in bounds:
        return listed([plain(choice) for choice in bounds["choices"]], "or")
    low, high = bounds.get("low"), bounds.get("high")
    if low is None or high is None:
        return f"at most {plain(high)}" if low is None else f"at least {plain(low)}"
    return f"{plain(low)} to {plain(high)}"
