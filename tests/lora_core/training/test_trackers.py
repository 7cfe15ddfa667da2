"""The curves reach TensorBoard, W&B (offline) and MLflow (a local store), and a run that goes on stays one run."""

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lora_core.errors import ConfigError
from lora_core.training import preflight
from lora_core.training.preflight import require_trackers
from lora_core.training.trackers import Trackers

PICTURE = np.zeros((8, 8, 3), np.uint8)


def test_a_run_that_goes_on_is_one_run_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for steps in ((8, 16), (16, 24)):  # the kill came after 16 was written and before it was saved
        made = Trackers(
            ("tensorboard", "wandb", "mlflow"), tmp_path / "log" / "mine" / "round-000", tmp_path, {"a": 1}, steps[0]
        )
        for step in steps:
            made.log({"training/loss": 1 / step}, step)
            made.pictures({"restored": [PICTURE]}, step)
        made.close()
    events = EventAccumulator(str(tmp_path / "log" / "mine" / "round-000")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [
        (8, pytest.approx(1 / 8)), (16, pytest.approx(1 / 16)), (24, pytest.approx(1 / 24)),
    ]  # fmt: skip
    assert len(events.Images("restored/0")) == 3
    import mlflow

    (run,) = mlflow.search_runs(experiment_names=["mine"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "training/loss")
    assert sorted({point.step for point in history}) == [8, 16, 24] and run.data.params == {"a": "1"}
    names = {path.name.rsplit("-", 1)[1] for path in (tmp_path / "wandb").glob("offline-run-*")}
    assert names == {(tmp_path / "wandb-run.txt").read_text().strip()}


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"monitoring.trackers: wandb is not installed; install photo-enhancer\[trackers\]"
    ):
        require_trackers(["wandb"])
