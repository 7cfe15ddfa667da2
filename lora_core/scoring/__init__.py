"""Scores of a round: every cell and reference against the originals, per photograph and in the mean.

A cell's scores are kept by the content of what was scored, so a killed run goes on where it was and no picture is
scored twice. Gains are against the degraded input, on the photographs that the cell has seen.
"""

from lora_core.scoring.conclusions import pareto_front, rank
from lora_core.scoring.folders import score_folders
from lora_core.scoring.points import POINT, composite, composites
from lora_core.scoring.rounds import score_part, score_round
from lora_core.scoring.scorer import Scorer, score_pair

__all__ = [
    "POINT", "Scorer", "composite", "composites", "pareto_front", "rank", "score_folders", "score_pair", "score_part",
    "score_round",
]  # fmt: skip
