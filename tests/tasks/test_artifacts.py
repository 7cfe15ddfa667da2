"""Artifacts on Prefect's pages."""

import pytest

from lora_core.experiment import Experiment
from tasks.artifacts import artifact_key


@pytest.mark.parametrize(
    ("name", "key"), [("pocket", "pocket-scores"), ("My_SD1.5-Run", "my-sd1-5-run-scores"), ("A.", "a-scores")]
)
def test_keys_keep_to_the_characters_that_prefect_allows(name: str, key: str) -> None:
    assert artifact_key(Experiment(name=name), "scores") == key
