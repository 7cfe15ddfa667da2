"""What a page asks: which photographs, in which order, and which side is whose."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_core.errors import ConfigError, DataError
from lora_core.files import finished_files, read_json, value_digest, write_json
from lora_core.randomness import numpy_generator
from lora_core.report.data import RoundData, Row, StudyData
from lora_core.report.words import inference_phrase
from lora_core.workspace import StudyFolder

_ROUND = re.compile(r"round:(\d+)")


@dataclass(frozen=True)
class Rival:
    """What the winner is compared with.

    Attributes:
        against: as it was asked for: base, input, classical, or round:N.
        name: what a person calls it.
        folder: of its pictures.
    """

    against: str
    id: str
    name: str
    folder: Path


@dataclass(frozen=True)
class Pair:
    """One question. Tokens name pictures without saying whose they are.

    Attributes:
        token: of the question.
        winner, rival: tokens of the two pictures.
        source: token of the degraded input; None where the input is one of the two and would give itself away.
        swapped: the winner stands on the right.
    """

    token: str
    photo: str
    winner: str
    rival: str
    source: str | None
    swapped: bool

    @property
    def sides(self) -> tuple[str, str]:
        """Tokens of the left and the right picture."""
        return (self.rival, self.winner) if self.swapped else (self.winner, self.rival)


@dataclass(frozen=True)
class Plan:
    """The key to a page, which the page itself does not hold.

    Attributes:
        page: digest of all that decides the page.
        round_digest: of the round whose winner is judged.
    """

    page: str
    experiment: str
    round: int
    round_digest: str
    winner: str
    against: str
    rival: str
    rival_name: str
    pairs: list[Pair]


def find_rival(study: StudyData, against: str) -> Rival:
    """Whom the best round's winner is compared with.

    Args:
        study: with at least one scored round.
        against: base, input, classical, or round:N.

    Raises:
        ConfigError: it is none of these.
        DataError: that round is not finished, has no winner, is the best one itself, or saw other photographs.
    """
    cells, result = study.folder.cells, study.best.result
    if against == "input":
        return Rival(against, result["input"]["id"], "the degraded input", study.folder.root / "test" / "degraded")
    if against in ("base", "classical"):
        row = result[against]
        name = "the base model without a LoRA" if against == "base" else f"the filter {row['name']}"
        return Rival(against, row["id"], name, cells / row["id"])
    if found := _ROUND.fullmatch(against):
        one = _other_round(study, int(found[1]))
        row = one.winner
        return Rival(
            against, row["id"], f"the winner of round {one.number} ({inference_phrase(row)})", cells / row["id"]
        )
    raise ConfigError(f"--against {against}: choose base, input, classical, or round:N with the number of a round")


def _other_round(study: StudyData, number: int) -> RoundData:
    if number == study.best.number:
        raise DataError(f"--against round:{number}: that is the best round itself; name another one")
    if any(one.number == number for one in study.pruned):
        raise DataError(f"--against round:{number}: it was stopped early and has no winner; name another one")
    one = next((one for one in study.rounds if one.number == number), None)
    if one is None:
        names = ", ".join(str(other.number) for other in study.rounds)
        raise DataError(f"--against round:{number}: no such round is finished; there are {names}")
    if one.result["test_digest"] != study.best.result["test_digest"]:
        raise DataError(f"--against round:{number}: it was scored on other photographs than round {study.best.number}")
    if one.winner["id"] == study.best.winner["id"]:
        raise DataError(f"--against round:{number}: its winner is the same as that of round {study.best.number}")
    return one


def make_plan(study: StudyData, rival: Rival, photos: int) -> Plan:
    """Draws photographs, their order and the sides from the experiment's seed; half of the sides are swapped.

    Args:
        study: whose best round's winner is judged.
        rival: the other side.
        photos: how many at most.
    """
    best, winner = study.best, study.best.winner["id"]
    names = sorted(study.by_photo[winner])
    parts = [study.experiment.name, best.result["digest"], winner, rival.id, study.experiment.seed, names, photos]
    page = value_digest(parts)
    draw = numpy_generator("comparison", page)
    order = [names[index] for index in draw.permutation(len(names))[:photos]]
    swaps = draw.permutation([index % 2 == 1 for index in range(len(order))])
    pairs = [_pair(page, photo, bool(swap), rival) for photo, swap in zip(order, swaps, strict=True)]
    return Plan(
        page=page,
        experiment=study.experiment.name,
        round=best.number,
        round_digest=best.result["digest"],
        winner=winner,
        against=rival.against,
        rival=rival.id,
        rival_name=rival.name,
        pairs=pairs,
    )


def _pair(page: str, photo: str, swap: bool, rival: Rival) -> Pair:
    def token(role: str) -> str:
        return value_digest([page, photo, role])[:20]

    source = None if rival.against == "input" else token("source")
    return Pair(token("pair"), photo, token("winner"), token("rival"), source, swap)


def key_path(study: StudyFolder, page: str) -> Path:
    """Where the key to a page lies."""
    return study.comparisons / f"{page[:16]}.json"


def write_plan(study: StudyFolder, plan: Plan) -> None:
    """Stores the key to a page."""
    write_json(key_path(study, plan.page), asdict(plan))


def read_plans(study: StudyFolder) -> list[Plan]:
    """The keys to all pages that were made of a study.

    Raises:
        DataError: a key is damaged.
    """
    return [_read(path) for path in finished_files(study.comparisons, ".json")]


def _read(path: Path) -> Plan:
    values: Row = read_json(path)
    try:
        return Plan(**{**values, "pairs": [Pair(**pair) for pair in values["pairs"]]})
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{path} is not the key to a comparison of this version; delete it and make the page anew: "
            "photo-enhancer compare"
        ) from error


def page_data(plan: Plan) -> dict[str, Any]:
    """What the page knows: tokens and names of photographs, and nothing about sides."""
    return {
        "page": plan.page,
        "experiment": plan.experiment,
        "round": plan.round,
        "pairs": [
            {"token": pair.token, "photo": pair.photo, "source": pair.source, "sides": list(pair.sides)}
            for pair in plan.pairs
        ],
    }


def pictures_of(study: StudyData, plan: Plan, rival: Rival) -> Sequence[tuple[str, Path]]:
    """(token, file) of every picture on the page."""
    winner, source = study.folder.cells / plan.winner, study.folder.root / "test" / "degraded"
    found: list[tuple[str, Path]] = []
    for pair in plan.pairs:
        file = f"{pair.photo}.png"
        found += [(pair.winner, winner / file), (pair.rival, rival.folder / file)]
        found += [(pair.source, source / file)] if pair.source else []
    return found
