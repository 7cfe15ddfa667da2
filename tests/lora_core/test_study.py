import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment, load_preset, parse_experiment, value_at, with_values
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.study import Proposal, propose, record
from lora_core.workspace import Workspace

RATE = {"key": "training.learning_rate", "low": 1e-5, "high": 1e-2, "log": True}
RANK = {"key": "adapter.rank", "low": 4, "high": 128, "log": True}
KIND = {"key": "objective.kind", "choices": ["direct", "bridge"]}


def experiment_of(*dimensions: dict[str, Any], **values: Any) -> Experiment:
    plain = with_values(load_preset("pocket"), values).model_dump(mode="json")
    plain["tuning"]["dimensions"] = list(dimensions)
    return parse_experiment(plain, "test")


def finish(workspace: Workspace, experiment: Experiment, proposal: Proposal, composite: float) -> None:
    result = {
        "digest": f"digest {proposal.number}",
        "winner": {"id": f"cell {proposal.number}", "composite": composite},
        "perceptual": {"name": "GMSD"},
    }
    record(workspace, experiment, proposal.number, result)


def valley(experiment: Experiment, changes: dict[str, Any]) -> float:
    """A smooth surface: best at a rate of 3e-4, rank 24, bridge."""
    run = with_values(experiment, changes)
    rate = math.log10(run.training.learning_rate / 3e-4)
    rank = math.log2(run.adapter.rank / 24)
    return 2 - rate**2 - 0.2 * rank**2 - (run.objective.kind != "bridge")


def run_rounds(folder: Path, experiment: Experiment, rounds: int, *advice: Finding) -> list[Proposal]:
    workspace = Workspace(folder)
    proposals = []
    for number in range(rounds):
        proposals.append(propose(workspace, experiment, number, advice))
        finish(workspace, experiment, proposals[-1], valley(experiment, proposals[-1].changes))
    return proposals


def test_twelve_rounds_start_from_the_defaults_and_beat_them_clearly(tmp_path: Path) -> None:
    experiment = experiment_of(RATE, RANK, KIND, **{"training.learning_rate": 5e-3, "adapter.rank": 64})
    proposals = run_rounds(tmp_path, experiment, 12)
    first = proposals[0]
    assert first.reason == "the experiment as written"
    assert first.changes == {key: value_at(experiment, key) for key in first.changes}
    assert [proposal.trial for proposal in proposals] == list(range(12))
    assert all(isinstance(proposal.changes["adapter.rank"], int) for proposal in proposals)
    scores = [valley(experiment, proposal.changes) for proposal in proposals]
    assert scores[0] < 0.2
    assert max(scores) > 1.8
    assert "Gaussian process over 3 rounds" in proposals[3].reason
    assert "training.learning_rate" in proposals[-1].reason and "from round" in proposals[-1].reason
    tried = {json.dumps(proposal.changes) for proposal in proposals}
    assert len(tried) == 12


def test_equal_seeds_propose_alike_and_other_seeds_do_not(tmp_path: Path) -> None:
    """Four rounds: the last comes from the model."""
    seeds = {"a": 7, "b": 7, "c": 8}
    runs = {name: run_rounds(tmp_path / name, experiment_of(RATE, RANK, seed=seed), 4) for name, seed in seeds.items()}
    assert runs["a"] == runs["b"]
    assert all(one.changes != other.changes for one, other in zip(runs["a"][1:], runs["c"][1:], strict=True))


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_restart_adopts_the_round(tmp_path: Path, number: int) -> None:
    experiment = experiment_of(RATE, RANK)
    run_rounds(tmp_path, experiment, number)
    workspace = Workspace(tmp_path)
    asked = propose(workspace, experiment, number, [])
    journal = workspace.study(experiment.name).study_log.read_bytes()
    advice = Finding("still-improving", "", {"training.learning_rate": {"low": 1e-5, "high": 2e-5}})
    assert propose(workspace, experiment, number, [advice]) == asked
    finish(workspace, experiment, asked, 1.0)
    assert propose(workspace, experiment, number, []) == asked
    assert workspace.study(experiment.name).study_log.read_bytes().startswith(journal)


def test_a_process_that_died_in_the_middle_of_a_record_proposes_the_same(tmp_path: Path) -> None:
    experiment = experiment_of(RATE, RANK)
    run_rounds(tmp_path, experiment, 3)
    workspace = Workspace(tmp_path)
    journal = workspace.study(experiment.name).study_log
    before = journal.read_bytes()
    asked = propose(workspace, experiment, 3, [])
    journal.write_bytes(journal.read_bytes()[: len(before) + 40])
    assert propose(workspace, experiment, 3, []) == asked


def test_recording_twice_is_recording_once(tmp_path: Path) -> None:
    experiment, workspace = experiment_of(RATE), Workspace(tmp_path)
    proposal = propose(workspace, experiment, 0, [])
    finish(workspace, experiment, proposal, 1.5)
    journal = workspace.study(experiment.name).study_log.read_bytes()
    finish(workspace, experiment, proposal, 1.5)
    assert workspace.study(experiment.name).study_log.read_bytes() == journal
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(workspace.study(experiment.name).study_log))
    )
    (trial,) = optuna.load_study(study_name=None, storage=storage).trials
    assert trial.value == 1.5
    assert trial.user_attrs["digest"] == "digest 0" and trial.user_attrs["winner"] == "cell 0"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"digest": "other"}, ConfigError, "another result of round 0"),
        ({"perceptual": {"name": "LPIPS"}}, ConfigError, "scored with LPIPS, round 0 with GMSD"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    experiment, workspace = experiment_of(RATE), Workspace(tmp_path)
    finish(workspace, experiment, propose(workspace, experiment, 0, []), 1.5)
    result = {"digest": "digest 0", "winner": {"id": "", "composite": 1.5}, "perceptual": {"name": "GMSD"}, **change}
    with pytest.raises(error, match=message):
        record(workspace, experiment, 0, result)
    with pytest.raises(DataError, match="knows no round 1"):
        record(workspace, experiment, 1, result)


@pytest.mark.parametrize(
    "other",
    [
        experiment_of(RATE, RANK),
        experiment_of({**RATE, "high": 1e-3}),
        experiment_of(RATE, **{"scoring.psnr_weight": 2.0}),
        experiment_of(RATE, **{"degradation.preset": "light"}),
        experiment_of(RATE, **{"data.prompt": "else"}),
        experiment_of(RATE, **{"base.precision": "fp16"}),
    ],
)
def test_the_study_of_another_experiment_is_refused(tmp_path: Path, other: Experiment) -> None:
    propose(Workspace(tmp_path), experiment_of(RATE), 0, [])
    with pytest.raises(ConfigError, match="give the experiment another name"):
        propose(Workspace(tmp_path), other, 0, [])


@pytest.mark.parametrize("rounds", [1, 4])
def test_advice_narrows_within_the_bounds_of_the_dimension(tmp_path: Path, rounds: int) -> None:
    """Both for values drawn at random (round 1) and from the model (round 4), whose best round lies outside."""
    experiment = experiment_of(RATE, RANK, KIND)
    run_rounds(tmp_path, experiment, rounds)
    advice = [
        Finding(
            "first", "", {"adapter.rank": {"low": 100, "high": 500}, "sweep.strengths": {"low": 0.01, "high": 0.05}}
        ),
        Finding("second", "", {"adapter.rank": {"low": 4, "high": 8}, "objective.kind": {"choices": ["bridge"]}}),
    ]
    proposal = propose(Workspace(tmp_path), experiment, rounds, advice)
    assert 100 <= proposal.changes["adapter.rank"] <= 128
    assert proposal.changes["objective.kind"] == "bridge"
    assert "sweep.strengths" not in proposal.changes
    assert "adapter.rank kept within 100 to 500 (first)" in proposal.reason
    assert "suggested, but not within tuning.dimensions: sweep.strengths 0.01 to 0.05 (first)" in proposal.reason


def test_advice_at_the_edge_of_a_dimension_pins_it_and_advice_beyond_it_is_only_suggested(tmp_path: Path) -> None:
    experiment = experiment_of(RATE, {"key": "training.epochs", "low": 1, "high": 8})
    run_rounds(tmp_path, experiment, 4)
    edge = Finding("still-improving", "", {"training.epochs": {"low": 8, "high": 16}})
    assert propose(Workspace(tmp_path), experiment, 4, [edge]).changes["training.epochs"] == 8
    finish(Workspace(tmp_path), experiment, propose(Workspace(tmp_path), experiment, 4, []), 0.0)
    beyond = Finding("still-improving", "", {"training.epochs": {"low": 10, "high": 16}})
    assert (
        "suggested, but not within tuning.dimensions: training.epochs 10 to 16"
        in propose(Workspace(tmp_path), experiment, 5, [beyond]).reason
    )


def test_a_small_space_is_gone_through_once(tmp_path: Path) -> None:
    experiment = experiment_of(KIND, {"key": "adapter.rank", "low": 31, "high": 32})
    proposals = run_rounds(tmp_path, experiment, 4)
    assert len({json.dumps(proposal.changes) for proposal in proposals}) == 4
    with pytest.raises(ConfigError, match="64 draws gave no round that was not tried"):
        propose(Workspace(tmp_path), experiment, 4, [])


def test_without_dimensions_the_diagnosis_leads_and_nothing_is_repeated(tmp_path: Path) -> None:
    experiment, workspace = experiment_of(), Workspace(tmp_path)
    longer = Finding("still-improving", "", {"training.epochs": {"low": 4, "high": 8}})
    lower = Finding("lowest-strength-best", "", {"sweep.strengths": {"low": 0.0125, "high": 0.05}})
    changes = []
    for number, findings in enumerate([[], [longer, lower], [longer, lower]]):
        proposal = propose(workspace, experiment, number, findings)
        changes.append(proposal.changes)
        finish(workspace, experiment, proposal, float(number))
    assert changes == [{}, {"training.epochs": 6}, {"training.epochs": 8}]
    assert "left for later: sweep.strengths 0.0125 to 0.05 (lowest-strength-best)" in proposal.reason
    finer = propose(workspace, experiment, 3, [lower]).changes
    assert finer == {"training.epochs": 8, "sweep.strengths": [0.0125, 0.05, 0.1, 0.2]}
    assert with_values(experiment, finer).sweep.strengths[0] == 0.0125
    with pytest.raises(ConfigError, match="advises nothing"):
        propose(workspace, experiment, 4, [])


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"key": "adapter.rank", "low": 64, "high": 128}, "adapter.rank is 32 in the experiment, not within 64 to 128"),
        ({"key": "objective.kind", "choices": ["bridge", "denoise"]}, "objective.kind is direct.* not within bridge"),
        ({"key": "objective.kind", "choices": ["direct", "brigde"]}, "objective.kind"),
        ({"key": "training.learning_rate", "low": 1e-5, "high": 2.0}, "training.learning_rate"),
        ({"key": "training.time_limit", "low": 1, "high": 2}, "training.time_limit is None.*not a number"),
        ({"key": "data.flip", "low": 0, "high": 1}, "data.flip is True.*not a number"),
        ({"key": "seed", "low": 0, "high": 9}, "seed says which experiment"),
        ({"key": "training.epochs", "low": 4.1, "high": 4.9}, "at most one value"),
    ],
)
def test_a_dimension_that_does_not_fit_its_key_is_refused(
    tmp_path: Path, dimension: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        propose(Workspace(tmp_path), experiment_of(dimension), 0, [])


@pytest.mark.parametrize("name", ["pocket", "restoration", "baseline"])
def test_the_shipped_experiments_start_as_written(tmp_path: Path, name: str) -> None:
    experiment = load_preset(name)
    assert with_values(experiment, propose(Workspace(tmp_path), experiment, 0, []).changes) == experiment


def test_values_have_the_type_and_the_step_of_their_key(tmp_path: Path) -> None:
    flip = {"key": "data.flip", "choices": ["true", "false"]}
    experiment = experiment_of({"key": "data.resolution", "low": 60, "high": 200}, flip)
    for proposal in run_rounds(tmp_path, experiment, 4):
        assert proposal.changes["data.resolution"] % 8 == 0
        assert isinstance(proposal.changes["data.flip"], bool)


def test_optuna_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_rounds(tmp_path, experiment_of(RATE), 4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"no journal\n", b'{"op_code": 99}\n', b'["a list"]\n', b"\xff\xfe\n"])
def test_a_damaged_journal_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    experiment, workspace = experiment_of(RATE), Workspace(tmp_path)
    finish(workspace, experiment, propose(workspace, experiment, 0, []), 1.0)
    journal = workspace.study(experiment.name).study_log
    journal.write_bytes(content + journal.read_bytes())
    with pytest.raises(DataError, match=r"study\.log is damaged .*restore it"):
        propose(workspace, experiment, 1, [])
