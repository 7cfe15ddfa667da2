"""The sweep of one round: every checkpoint, and the bare base, at every setting, on the test photographs."""

from lora_core.sweep.launch import conclude_sweep, sweep_digest, sweep_part, sweep_round, swept

__all__ = ["conclude_sweep", "sweep_digest", "sweep_part", "sweep_round", "swept"]
