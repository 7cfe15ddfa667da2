"""The page for a person: what was tried, what it gained, which settings to use.

One self-contained `report.html` an experiment, without any request to a network, made from the files of the finished
rounds alone: it can be written again at any time and equal files give an equal page.
"""

from lora_core.report.page import write_report

__all__ = ["write_report"]
