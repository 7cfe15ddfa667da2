"""The degraded twins."""

from typing import Literal

from lora_core.settings import Section, field

DegradationName = Literal["light", "medium", "heavy", "single", "pocket", "own"]


class DegradationSection(Section):
    """How the degraded twins are made."""

    preset: DegradationName = field(0, "pocket", "Published recipe, or 'own' for twins that you bring yourself")
    seed: int = field(1, 0, "Seed of every sampled parameter", ge=0)
