"""Every strategy proposes on the same study; what contradicts is refused before a study is begun."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import Experiment, apply_overrides, load_preset, parse_experiment, with_values
from lora_core.tuning.diagnosis import Finding
from lora_core.tuning.importance import importance
from lora_core.tuning.journal import Journal
from lora_core.tuning.space import combinations, search_space
from lora_core.tuning.stopping import stop_reason
from lora_core.tuning.study import Proposal, propose, record
from lora_core.workspace import Workspace

RATE = {"key": "training.learning_rate", "low": 1e-5, "high": 1e-2, "log": True}
KIND = {"key": "objective.kind", "choices": ["direct", "bridge"]}
LOSS = {"key": "objective.loss", "choices": ["l2", "huber"]}
DELTA = {"key": "objective.huber_delta", "low": 0.01, "high": 1.0, "log": True, "when": "objective.loss=huber"}


def experiment_of(*dimensions: dict[str, Any], name: str = "pocket", **tuning: Any) -> Experiment:
    plain = with_values(load_preset("pocket"), {"name": name, "scoring.perceptual": "gmsd"}).model_dump(mode="json")
    plain["tuning"] |= {"dimensions": list(dimensions), **tuning}
    return parse_experiment(plain, "test")


def result_of(number: int, composite: float | None) -> dict[str, Any]:
    validations = [{"images": 0, "loss": 0.5}, {"images": 100, "loss": 0.4}]
    result = {"round": number, "digest": f"digest {number}", "validations": validations, "pruned": composite is None}
    if composite is None:
        return {**result, "winner": None, "perceptual": None, "pruned_because": "It does not learn."}
    return {**result, "winner": {"id": f"cell {number}", "composite": composite}, "perceptual": {"name": "GMSD"}}


def run_rounds(workspace: Workspace, experiment: Experiment, *composites: float | None) -> list[Proposal]:
    proposals = []
    for number, composite in enumerate(composites):
        proposals.append(propose(workspace, experiment, number, []))
        record(workspace, experiment, number, result_of(number, composite))
    return proposals


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [("gp", "a Gaussian process over 3 rounds"), ("tpe", "Parzen estimators over 3 rounds"), ("random", "at random")],
)
def test_a_search_starts_as_written_then_draws_within_its_bounds_and_answers_alike(
    tmp_path: Path, strategy: str, reason: str
) -> None:
    experiment = experiment_of(RATE, KIND, strategy=strategy)
    one, other = (run_rounds(Workspace(tmp_path / place), experiment, 1.0, 2.0, 1.5, 1.2) for place in "ab")
    assert one == other and one[0].reason == "the experiment as written"
    rates = [proposal.changes["training.learning_rate"] for proposal in one]
    assert len(set(rates)) == 4 and all(1e-5 <= rate <= 1e-2 for rate in rates)
    assert reason in one[3].reason


def test_the_listed_rounds_run_in_order_and_then_the_loop_ends(tmp_path: Path) -> None:
    experiment = experiment_of(
        strategy="manual", manual=[["adapter.rank=16", "data.flip=false"], [], ["adapter.rank=8"]]
    )
    proposals = run_rounds(Workspace(tmp_path), experiment, 1.0, 2.0, 0.5)
    assert [proposal.changes for proposal in proposals] == [
        {"adapter.rank": 16, "data.flip": False}, {}, {"adapter.rank": 8},
    ]  # fmt: skip
    results = [{**result_of(number, 1.0), "changes": {}, "diagnosis": []} for number in range(3)]
    assert stop_reason(experiment, results[:2], 0.0) is None
    assert stop_reason(experiment, results, 0.0) == "all 3 rounds of tuning.manual are done"
    with pytest.raises(ConfigError, match="lists 3 rounds and all are done"):
        propose(Workspace(tmp_path), experiment, 3, [])


def test_a_dimension_counts_only_where_its_condition_holds(tmp_path: Path) -> None:
    experiment = experiment_of(LOSS, DELTA)
    proposals = run_rounds(Workspace(tmp_path), experiment, *(float(number % 3) for number in range(8)))
    losses = {proposal.changes["objective.loss"] for proposal in proposals}
    assert losses == {"l2", "huber"}
    for proposal in proposals:
        assert ("objective.huber_delta" in proposal.changes) == (proposal.changes["objective.loss"] == "huber")
    assert sum(proposal.changes["objective.loss"] == "l2" for proposal in proposals) == 1, "l2 has nothing else to vary"


def test_combinations_count_what_conditions_leave() -> None:
    ranks = {"key": "adapter.rank", "low": 31, "high": 33, "when": "objective.loss=huber"}
    experiment = experiment_of(LOSS, KIND, ranks)
    assert combinations(experiment, search_space(experiment)) == 2 * (1 + 3)
    assert combinations(experiment_of(DELTA, LOSS), search_space(experiment_of(DELTA, LOSS))) is None


@pytest.mark.parametrize(
    ("dimensions", "tuning", "message"),
    [
        ([RATE], {"strategy": "manual", "manual": [["adapter.rank=8"]]}, "manual searches nothing; set tuning.dim"),
        ([RATE], {"strategy": "rules"}, "rules searches nothing"),
        ([{"key": "data.test_limit", "low": 1, "high": 9}], {}, "data.test_limit would change what the rounds are"),
        ([{"key": "data.test_size", "low": 32, "high": 64}], {}, "data.test_size would change what the rounds are"),
        ([], {"strategy": "manual"}, "needs at least one round"),
        ([], {"manual": [["adapter.rank=8"]]}, "gp does not read it; set tuning.strategy=manual"),
        ([], {"strategy": "manual", "manual": [["adapter.rank=8"], []], "rounds": 1}, "lists 2 rounds, .* allows 1"),
        ([], {"strategy": "bayes"}, "strategy"),
        ([], {"warm_start": ["other"]}, "only a search learns"),
        ([RATE], {"warm_start": ["other", "other"]}, "other is given twice"),
        ([DELTA], {}, "objective.loss is no other dimension"),
        ([LOSS, {**DELTA, "when": "objective.loss=l1"}], {}, "objective.loss is never l1; it has l2, huber"),
        ([LOSS, {**DELTA, "when": "huber"}], {}, "'huber' is not key=choice"),
        ([RATE, {**DELTA, "when": "training.learning_rate=1e-4"}], {}, "is never 1e-4; it has bounds"),
        ([LOSS, {**KIND, "when": "objective.loss=l2"}, {**DELTA, "when": "objective.kind=direct"}], {}, "itself"),
        ([{**KIND, "choices": ["direct", "direct"]}], {}, "the choice direct is given twice"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_by_name(dimensions: list[Any], tuning: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment_of(*dimensions, **tuning)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["adapter.rnk=8"], "round 0: .*unknown key 'adapter.rnk'.*adapter.rank"),
        (["adapter.rank=0"], "round 0: .*adapter.rank"),
        (["adapter.rank"], "round 0: .*write section.key=value"),
        (["scoring.psnr_weight=2"], "scoring.psnr_weight would change what the rounds are compared by"),
        (["seed=2"], "seed would change"),
        (["data.test_limit=2"], "data.test_limit would change"),
        (["data.test_size=64"], "data.test_size would change"),
        (["adapter.rank=8", "adapter.rank=9"], "a key is given twice"),
    ],
)
def test_a_listed_round_that_is_not_valid_is_refused_before_the_study_begins(
    tmp_path: Path, assignments: list[str], message: str
) -> None:
    experiment = experiment_of(strategy="manual", manual=[assignments])
    with pytest.raises(ConfigError, match=message):
        propose(Workspace(tmp_path), experiment, 0, [])
    assert not Workspace(tmp_path).study("pocket").root.exists()
    twice = experiment_of(strategy="manual", manual=[["adapter.rank=8"], ["adapter.rank=8"]])
    with pytest.raises(ConfigError, match=r"round 1: adapter\.rank=8 is there before"):
        propose(Workspace(tmp_path), twice, 0, [])


def test_a_pruned_round_is_recorded_with_its_reason_and_not_tried_again(tmp_path: Path) -> None:
    """And the journal is a plain Optuna study, as optuna-dashboard opens it."""
    workspace, experiment = Workspace(tmp_path), experiment_of(RATE, KIND)
    proposals = run_rounds(workspace, experiment, 1.0, None, 1.5, None, 1.2)
    record(workspace, experiment, 1, result_of(1, None))
    backend = optuna.storages.journal.JournalFileBackend(str(workspace.study("pocket").study_log))
    study = optuna.load_study(study_name="rounds", storage=optuna.storages.JournalStorage(backend))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]
    assert study.trials[1].value is None and study.trials[1].user_attrs["pruned_because"] == "It does not learn."
    assert study.trials[2].value == 1.5 and study.best_trial.number == 2
    assert study.trials[0].params.keys() == {"training.learning_rate", "objective.kind"}
    assert study.trials[0].intermediate_values == {100: pytest.approx(0.8)}
    assert study.direction.name == "MAXIMIZE"
    assert len({str(proposal.changes) for proposal in proposals}) == 5
    assert "over 5 rounds" in propose(workspace, experiment, 5, []).reason, "the model knows of the pruned ones"


def test_a_round_that_does_not_meet_the_constraints_is_not_the_best_to_go_on_from(tmp_path: Path) -> None:
    workspace, experiment = Workspace(tmp_path), experiment_of()
    longer = Finding("still-improving", "", {"training.epochs": {"low": 4, "high": 8}})
    higher = Finding("rank-too-low", "", {"adapter.rank": {"low": 60, "high": 68}})
    for number, (composite, feasible) in enumerate([(1.0, True), (5.0, False)]):
        propose(workspace, experiment, number, [longer])
        result = result_of(number, composite)
        record(workspace, experiment, number, result | {"winner": result["winner"] | {"feasible": feasible}})
    proposal = propose(workspace, experiment, 2, [higher])
    assert proposal.changes == {"adapter.rank": 64} and "from round 0, the best so far (+1.00" in proposal.reason


def test_an_earlier_study_that_may_be_running_is_not_written_to(tmp_path: Path) -> None:
    workspace, first = Workspace(tmp_path), experiment_of(RATE, KIND, name="first")
    run_rounds(workspace, first, 1.0, 2.0)
    journal = workspace.study("first").study_log
    torn = journal.read_bytes() + b'{"op_code": 4, "worker_'
    journal.write_bytes(torn)
    second = experiment_of(RATE, KIND, name="second", warm_start=["first"])
    run_rounds(workspace, second, 1.0)
    assert "learnt from 2 rounds of first" in propose(workspace, second, 1, []).reason
    assert importance(workspace, first).n == 2
    assert journal.read_bytes() == torn
    propose(workspace, first, 2, [])
    assert b'"worker_{' not in journal.read_bytes() and len(Journal(journal, first).trials) == 3, "its own repairs it"


def test_importance_says_what_it_rests_on(tmp_path: Path) -> None:
    workspace, experiment = Workspace(tmp_path), experiment_of(RATE, {"key": "adapter.rank", "low": 4, "high": 64})
    assert (importance(workspace, experiment).n, importance(workspace, experiment).shares) == (0, [])
    for number in range(14):
        changes = propose(workspace, with_values(experiment, {"tuning.strategy": "random"}), number, []).changes
        rate = changes["training.learning_rate"]
        record(workspace, experiment, number, result_of(number, -abs(3 + math.log10(rate))))
        found = importance(workspace, experiment)
        assert found.n == number + 1 and bool(found.shares) == (number >= 3)
    assert found.shares[0][0] == "training.learning_rate" and found.shares[0][1] > 0.6
    assert sum(share for _, share in found.shares) == pytest.approx(1)
    assert "over 14 scored rounds: training.learning_rate" in str(found)


def test_earlier_rounds_enter_the_model(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run_rounds(workspace, experiment_of(RATE, KIND, name="first"), 1.0, 2.0, None, 0.5)
    by_name = experiment_of({**RATE, "low": 1e-4}, KIND, name="second", warm_start=["first"])
    run_rounds(workspace, by_name, 1.0)
    proposal = propose(workspace, by_name, 1, [])
    assert "Gaussian process" in proposal.reason and "rounds of first" in proposal.reason
    by_file = experiment_of(RATE, KIND, name="third", warm_start=[str(workspace.study("first").study_log)])
    run_rounds(workspace, by_file, 1.0)
    assert "over 5 rounds" in propose(workspace, by_file, 1, []).reason


@pytest.mark.parametrize(
    ("earlier", "settings", "warm", "message"),
    [
        (experiment_of(RATE, KIND, name="first"), [], "nowhere", "nowhere: .*study.log does not exist"),
        (experiment_of(RATE, KIND, name="first"), [], "second", "second is this study itself"),
        (experiment_of(RATE, name="first"), [], "first", "first did not search objective.kind"),
        (experiment_of(RATE, KIND, LOSS, name="first"), [], "first", "first searched objective.loss, which"),
        (experiment_of(RATE, KIND, name="first"), ["scoring.psnr_weight=3"], "first", "another scoring section"),
    ],
)
def test_an_earlier_study_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, earlier: Experiment, settings: list[str], warm: str, message: str
) -> None:
    workspace = Workspace(tmp_path)
    run_rounds(workspace, earlier, 1.0)
    experiment = apply_overrides(experiment_of(RATE, KIND, name="second", warm_start=[warm]), settings)
    with pytest.raises(ConfigError, match=message):
        propose(workspace, experiment, 0, [])
    assert not workspace.study("second").root.exists()


def test_an_earlier_study_of_another_metric_or_without_rounds_or_damaged_is_refused(tmp_path: Path) -> None:
    workspace, first = Workspace(tmp_path), experiment_of(RATE, KIND, name="first")
    second = experiment_of(RATE, KIND, name="second", warm_start=["first"])
    propose(workspace, first, 0, [])
    with pytest.raises(ConfigError, match=r"first: .* holds no finished round"):
        propose(workspace, second, 0, [])
    record(workspace, first, 0, {**result_of(0, 1.0), "perceptual": {"name": "LPIPS"}})
    with pytest.raises(ConfigError, match="first was scored with LPIPS, this study with GMSD"):
        propose(workspace, second, 0, [])
    journal = workspace.study("first").study_log
    journal.write_bytes(b"no journal\n" + journal.read_bytes())
    with pytest.raises(DataError, match="is damaged"):
        propose(workspace, second, 0, [])


def test_only_a_study_that_was_begun_is_resumed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ConfigError, match="no study to resume; there is none"):
        workspace.require_begun("pocket")
    propose(workspace, experiment_of(RATE), 0, [])
    workspace.require_begun("pocket")
    with pytest.raises(ConfigError, match="no study to resume; there are pocket"):
        workspace.require_begun("other")
