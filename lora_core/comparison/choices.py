"""The choices that a page gave: checked against its key, and folded into the study as a judgement."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lora_core.comparison.plan import Plan, read_plans
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import read_json
from lora_core.judging import Judgement, Outcome, write_judgement
from lora_core.workspace import StudyFolder, Workspace

SAME = "same"
"""The choice of neither side."""


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    pair: str
    choice: str


class _Choices(BaseModel):
    """A downloaded file."""

    model_config = ConfigDict(extra="forbid", strict=True)
    page: str
    experiment: str
    round: int
    session: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    choices: list[_Choice] = Field(min_length=1)


def fold_choices(workspace: Workspace, experiment: Experiment, path: Path) -> tuple[Judgement, bool]:
    """Checks a file of choices and stores what it says about the winner.

    An unfinished page counts with what was judged: the judge did not know the sides, so stopping early cannot favour
    one. A judge who goes on later replaces the earlier choices.

    Returns:
        The judgement, and whether it is new.

    Raises:
        DataError: the file is none of a page of this study, was edited, or its round is no longer what it was.
        ResourceError: the judgement cannot be written.
    """
    study = workspace.study(experiment.name)
    choices = _read(path)
    if choices.experiment != experiment.name:
        raise DataError(f"{path} judges the experiment {choices.experiment}, this one is {experiment.name}")
    plan = next((one for one in read_plans(study) if one.page == choices.page), None)
    if plan is None:
        raise DataError(
            f"{path} comes from a page that was not made here (page {choices.page[:16]}, none of {study.comparisons}); "
            "judge with the workspace that made the page"
        )
    _check_round(path, choices, plan, study)
    judgement = Judgement(
        page=plan.page,
        session=choices.session,
        round=plan.round,
        winner=plan.winner,
        against=plan.against,
        rival=plan.rival,
        rival_name=plan.rival_name,
        asked=len(plan.pairs),
        outcomes=_outcomes(path, choices, plan),
    )
    return judgement, write_judgement(study, judgement)


def _read(path: Path) -> _Choices:
    try:
        return _Choices.model_validate(read_json(path))
    except ValidationError as error:
        problem: dict[str, Any] = dict(error.errors()[0])
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise DataError(
            f"{path} is not a file of choices as the page gives it ({where}: {problem['msg']}); download it again"
        ) from error


def _check_round(path: Path, choices: _Choices, plan: Plan, study: StudyFolder) -> None:
    if choices.round != plan.round:
        raise DataError(f"{path} says round {choices.round}, but its page judges round {plan.round}; it was edited")
    manifest = study.round(plan.round).result
    result = read_json(manifest)
    if result["digest"] != plan.round_digest or (result["winner"] or {}).get("id") != plan.winner:
        raise DataError(
            f"{path} judges an earlier run of round {plan.round}; {manifest} names another winner now, so make the "
            "page anew: photo-enhancer compare"
        )


def _outcomes(path: Path, choices: _Choices, plan: Plan) -> dict[str, Outcome]:
    """By photograph, in the order of the page."""
    pairs = {pair.token: pair for pair in plan.pairs}
    found: dict[str, Outcome] = {}
    for one in choices.choices:
        pair = pairs.get(one.pair)
        if pair is None:
            raise DataError(f"{path}: no comparison of this page is called {one.pair}; the file was edited")
        known: dict[str, Outcome] = {pair.winner: "win", pair.rival: "loss", SAME: "tie"}
        if one.choice not in known:
            raise DataError(f"{path}: {one.choice} is no choice in comparison {one.pair}; the file was edited")
        if pair.photo in found:
            raise DataError(f"{path}: comparison {one.pair} is answered twice; the file was edited")
        found[pair.photo] = known[one.choice]
    return {pair.photo: found[pair.photo] for pair in plan.pairs if pair.photo in found}
