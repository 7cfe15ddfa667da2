"""The sweep of one round: every checkpoint, and the bare base, at every setting, on the test photographs."""

from lora_core.sweep.launch import sweep_round

__all__ = ["sweep_round"]
