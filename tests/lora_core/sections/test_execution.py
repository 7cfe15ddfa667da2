"""Who works decides nothing: neither what is computed nor what it is called."""

import pytest

from lora_core.errors import ConfigError
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.lineage import round_digest


def test_workers_change_no_digest_and_no_round_may_search_them() -> None:
    plain = load_preset("restoration")
    spread = apply_overrides(
        plain, ["execution.runner=ray", "execution.workers=8", "execution.address=ray://gpu:10001"]
    )
    assert not plain.execution.shared and spread.execution.shared
    assert round_digest(plain, "photographs", "base") == round_digest(spread, "photographs", "base")
    others = [name for name in Experiment.model_fields if name != "execution"]
    assert plain.digest_of(*others) == spread.digest_of(*others)
    with pytest.raises(ConfigError, match="compared by"):
        apply_overrides(plain, ["tuning.dimensions=[{key: execution.workers, low: 1, high: 4}]"])


@pytest.mark.parametrize(("setting", "words"), [("workers=0", "greater than or equal to 1"), ("runner=dask", "'ray'")])
def test_workers_that_cannot_be(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        apply_overrides(load_preset("pocket"), [f"execution.{setting}"])
