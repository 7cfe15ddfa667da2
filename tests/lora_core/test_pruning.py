"""A round is given up where its validation loss is hopeless, and only there; equal curves decide alike."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lora_core.experiment import apply_overrides, load_preset
from lora_core.tuning.diagnosis import diagnose_pruned
from lora_core.tuning.pruning import Pruner, pruner_for, shares, validated_on


def rows(*losses: float) -> list[dict[str, Any]]:
    return [{"images": 100 * place, "loss": loss} for place, loss in enumerate(losses)]


def earlier(number: int, *losses: float, pruned: bool = False, settings: Sequence[str] = ()) -> dict[str, Any]:
    grid = validated_on(apply_overrides(load_preset("pocket"), list(settings)))
    return {"round": number, "pruned": pruned, "validated_on": grid, "validations": rows(*losses)}


RIVALS = [earlier(0, 2.0, 1.8, 1.6, 1.2), earlier(1, 2.0, 1.9, 1.8, 1.6), earlier(2, 2.0, 1.7, 1.4, 1.0)]


@pytest.mark.parametrize("scale", [0.001, 1.0, 50.0])
@pytest.mark.parametrize(
    ("losses", "checkpoints", "rivals", "word"),
    [
        ((1.0, 1.2), (100,), [], None),
        ((1.0, 1.2, 1.1), (100, 200), [], "never below the base's own"),
        ((1.0, 1.2, 1.1), (200,), [], None),
        ((1.0, 1.2, 0.99), (100, 200), [], None),
        ((1.0, 0.99, 1.3), (100, 200), [], None),
        ((1.0, 0.9, float("nan")), (100, 200), [], "no number"),
        ((1.0, 0.99, 0.98), (100, 200), RIVALS, "98.0% of the base's own, where the median of 3"),
        ((1.0, 0.99, 0.94), (100, 200), RIVALS, None),
        ((1.0, 0.99, 0.98), (100, 200), RIVALS[:2], None),
        ((1.0, 0.999, 0.999, 0.999, 0.999), (200, 400), RIVALS, None),
    ],
    ids=[
        "grace", "no learning", "one checkpoint", "late but below", "risen again", "not finite",
        "behind", "not far behind", "two rivals", "rivals were not that far",
    ],
)  # fmt: skip
def test_the_rules(
    scale: float,
    losses: tuple[float, ...],
    checkpoints: tuple[int, ...],
    rivals: list[dict[str, Any]],
    word: str | None,
) -> None:
    pruner = pruner_for(load_preset("pocket"), rivals)
    scaled = rows(*(scale * loss for loss in losses))
    because = pruner(scaled, checkpoints)
    assert because is None if word is None else because is not None and word in because and because.endswith(".")
    told = Pruner.of_json(json.loads(json.dumps(pruner.as_json())))
    assert told == pruner and told(scaled, checkpoints) == because


@pytest.mark.parametrize(
    "other",
    [
        earlier(3, 2.0, 0.2, 0.1, 0.1, pruned=True),
        earlier(3, 2.0, 0.2, 0.1, 0.1, settings=["objective.weighting=none"]),
        earlier(3, 2.0, 0.2, 0.1, 0.1, settings=["sweep.strengths=[0.5]"]),
        earlier(3, 2.0, 0.2, 0.1, 0.1, settings=["data.resolution=64"]),
    ],
    ids=["pruned", "weighting", "strengths", "resolution"],
)
def test_only_rounds_on_the_same_grid_are_rivals(other: dict[str, Any]) -> None:
    assert len(pruner_for(load_preset("pocket"), [*RIVALS, other]).rivals) == 3
    same = earlier(3, 2.0, 1.5, settings=["training.learning_rate=0.1", "adapter.rank=4", "training.epochs=9"])
    assert len(pruner_for(load_preset("pocket"), [*RIVALS, same]).rivals) == 4


def test_no_validations_no_pruning() -> None:
    assert shares([]) == [] and Pruner()([], [100, 200]) is None
    assert shares(rows(0.0, 1.0)) == []


@pytest.mark.parametrize(
    ("losses", "low", "high"),
    [((1.0, 1.2, 1.5), 1e-4, 5e-4), ((1.0, 1.0, 0.999), 2e-3, 1e-2), ((), 1e-4, 5e-4)],
    ids=["harm", "nothing learnt", "no number"],
)
def test_the_diagnosis_of_a_pruned_round_moves_the_rate(losses: tuple[float, ...], low: float, high: float) -> None:
    done = {"pruned_because": "It does not learn.", "validations": rows(*losses)}
    (finding,) = diagnose_pruned(apply_overrides(load_preset("pocket"), ["training.learning_rate=0.001"]), done)
    bounds = finding.advice["training.learning_rate"]
    assert (bounds["low"], bounds["high"]) == (pytest.approx(low), pytest.approx(high))
    assert finding.says.startswith("It does not learn. ")


def test_costs_are_told_from_the_round_before(tmp_path: Path) -> None:
    from lora_core.files import write_json
    from lora_core.lineage import append_ledger
    from lora_core.tuning.costs import Stopwatch, duration, expected_costs
    from lora_core.workspace import Workspace

    workspace, experiment = Workspace(tmp_path), load_preset("pocket")
    study = workspace.study(experiment.name)
    assert "not known yet" in expected_costs(workspace, experiment, 0)[0]
    result = {"round": 0, "digest": "a", "test_digest": "t", "pruned": False, "images": 400}
    append_ledger(study, result | {"epochs": experiment.training.epochs})
    study.round(0).root.mkdir(parents=True)
    watch = Stopwatch(study.round(0))
    for _ in range(2):
        with watch("training"):
            pass
    write_json(study.round(0).seconds, {"training": 600.0, "sweep": 200.0, "scoring": 100.0})
    twice = apply_overrides(experiment, [f"training.epochs={2 * experiment.training.epochs}"])
    (sentence,) = expected_costs(workspace, twice, 1)
    assert "about 25 min: 20 min to train on 800 views, 5 min for sweep and scores" in sentence
    assert [duration(value) for value in (40, 720, 12000, 190000)] == ["40 s", "12 min", "3 h 20 min", "2 d 4 h"]
