"""Base models. A family is a module that opens its files as a `Base`; finding and checking files needs no torch."""

from lora_core.bases.files import base_digest, check_base, locate_base

__all__ = ["base_digest", "check_base", "locate_base"]
