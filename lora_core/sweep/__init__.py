"""The sweep of one round: every checkpoint, and the bare base, at every setting, on the test photographs."""

from lora_core.sweep.cells import picture_count
from lora_core.sweep.launch import conclude_sweep, parts_digest, sweep_digest, sweep_part, sweep_round, swept

__all__ = ["conclude_sweep", "parts_digest", "picture_count", "sweep_digest", "sweep_part", "sweep_round", "swept"]
