"""The composite: weighted gains over the degraded input, in points."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_core.errors import DataError
from lora_core.experiment import ScoringSection

POINT = {"psnr_y": 1.0, "ssim_y": 0.04, "perceptual": 0.10}
"""The gain that is one point of the composite: in dB, in SSIM, as a share of the input's perceptual distance."""

Row = dict[str, Any]


def composite(gain_psnr_y: float, gain_ssim_y: float, gain_perceptual: float, section: ScoringSection) -> float:
    """Weighted mean of the gains over the input, in points (`POINT`); the input itself has 0.

    Args:
        gain_psnr_y: dB.
        gain_ssim_y: difference of SSIM.
        gain_perceptual: share of the input's distance that is gone.
        section: the weights, of which at least one is above 0.
    """
    weighted = (
        section.psnr_weight * gain_psnr_y / POINT["psnr_y"]
        + section.ssim_weight * gain_ssim_y / POINT["ssim_y"]
        + section.perceptual_weight * gain_perceptual / POINT["perceptual"]
    )
    return weighted / (section.psnr_weight + section.ssim_weight + section.perceptual_weight)


def gains_of(row: Mapping[str, Any], start: Mapping[str, Any], distance: float) -> dict[str, float]:
    """Gains of one row of scores over the input's, on the same photograph or in the mean of the same photographs.

    Args:
        row, start: `psnr_y` in dB, `ssim_y` and `perceptual`.
        distance: mean perceptual distance of the input over all test photographs, of which the gain is a share.
    """
    return {
        "gain_psnr_y": row["psnr_y"] - start["psnr_y"],
        "gain_ssim_y": row["ssim_y"] - start["ssim_y"],
        "gain_perceptual": (start["perceptual"] - row["perceptual"]) / distance,
    }


def composites(rows: Sequence[Row], inputs: Mapping[str, Row], section: ScoringSection) -> list[float]:
    """The composite of each photograph, in points.

    The perceptual gain is a share of the *mean* input distance over all test photographs: so one photograph whose
    input is nearly perfect cannot blow the mean up, and the mean over the photographs is the table's composite.

    Args:
        rows: scores of photographs, as of `Scorer.rows`.
        inputs: the degraded input's row of every test photograph, by name.
        section: the weights.

    Raises:
        DataError: the inputs equal their originals, or a row's photograph has no input.
    """
    distance = mean_distance(inputs.values())
    points = []
    for row in rows:
        if row["photo"] not in inputs:
            raise DataError(f"{row['id']}: no score of the degraded input of {row['photo']}, to measure gains against")
        points.append(composite(**gains_of(row, inputs[row["photo"]], distance), section=section))
    return points


def mean_distance(inputs: Iterable[Row]) -> float:
    """Mean perceptual distance of the degraded inputs.

    Raises:
        DataError: it is 0.
    """
    distance = mean_of([row["perceptual"] for row in inputs])
    if distance == 0:
        raise DataError(
            "the degraded test photographs equal their originals: there is nothing to restore and no gain to measure; "
            "bring degraded twins, or make them with: photo-enhancer degrade"
        )
    return distance


def mean_of(values: Sequence[float]) -> float:
    """The mean; `fsum` is exact, so neither order nor machine changes it."""
    return math.fsum(values) / len(values)
