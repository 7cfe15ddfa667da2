"""Photo Enhancer's core: everything that is true without an orchestrator."""

import logging

__version__ = "0.1.0"

# At its import, which PEFT's brings along, it advises a package for 4-bit products on CPUs; the core does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
