"""What happens after what: one flow a file, whose body reads as the plan. `flows.cli` is the command line.

What our modules log belongs to a run's story on Prefect's pages. PREFECT_LOGGING_EXTRA_LOGGERS takes it there, but
leaves the level at that of the root, which shows warnings alone.
"""

import logging

LOGGERS = ("lora_core", "tasks", "flows")
for _name in LOGGERS:
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.INFO)
