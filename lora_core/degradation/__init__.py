"""Degraded twins of clean photographs: published recipes as pure functions, and folders of them."""

from lora_core.degradation.folder import DegradedFolder, degrade_folder, unmade
from lora_core.degradation.pipeline import Degraded, degrade, degraded_variant

__all__ = ["Degraded", "DegradedFolder", "degrade", "degrade_folder", "degraded_variant", "unmade"]
