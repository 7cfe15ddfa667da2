"""The sections of an experiment, one a module; `lora_core.experiment` puts them together."""
