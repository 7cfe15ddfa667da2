"""Photo Enhancer's core: everything that is true without an orchestrator."""

__version__ = "0.1.0"
