"""What the race dropped, when, how surely, and what that saved."""

from dataclasses import dataclass
from functools import partial

from lora_core.report.bars import race_chart
from lora_core.report.data import Row, StudyData
from lora_core.report.drawings import Drawing, both
from lora_core.report.words import SPACE, chance, counted, inference_phrase, percent, signed

_CLOSE = 12
"""Dropped settings that are listed one by one."""


@dataclass(frozen=True)
class RaceStage:
    """What happened after so many photographs.

    Attributes:
        cells: settings that restored them.
        worse: dropped because they were surely worse than the leader.
        outranked: dropped because too many others were ahead.
        left: settings that went on.
        closest: the least sure of those that were surely worse; "" where none was.
    """

    photos: int
    cells: int
    worse: int
    outranked: int
    left: int
    closest: str


@dataclass(frozen=True)
class Exit:
    """A setting that left the race: how far behind the leader of the moment, and how surely."""

    name: str
    photos: int
    rival: str
    difference: str
    p: str
    why: str


@dataclass(frozen=True)
class Race:
    """The race of the best round.

    Attributes:
        sentences: what was dropped and saved.
        exits: the closest calls.
    """

    sentences: list[str]
    stages: list[RaceStage]
    drawing: Drawing
    exits: list[Exit]


def tell_race(study: StudyData) -> Race | None:
    """The race in words, numbers and a chart; None where every setting saw every photograph."""
    race = study.best.result["race"]
    if not race or not race["stages"]:
        return None
    stages = [_stage(row) for row in race["stages"]]
    steps = [(stage.photos, stage.cells) for stage in stages]
    if steps[-1][0] < race["photos"]:
        steps.append((race["photos"], stages[-1].left))
    names: dict[str, str] = {row["id"]: inference_phrase(row) for row in study.scores if row["kind"] != "reference"}
    exits = [(row, stage["photos"]) for stage in race["stages"] for row in stage["dropped"]]
    exits.sort(key=lambda exit_: (-exit_[0]["difference"], exit_[0]["id"]))
    return Race(
        sentences=_sentences(race, steps, len(exits)),
        stages=[stage for stage in stages if stage.worse or stage.outranked],
        drawing=both(partial(race_chart, steps, race["photos"])),
        exits=[_exit(row, photos, names) for row, photos in exits[:_CLOSE]],
    )


def _stage(row: Row) -> RaceStage:
    worse = [one for one in row["dropped"] if one.get("why", "worse") == "worse"]
    outranked = len(row["dropped"]) - len(worse)
    closest = chance(max(one["p"] for one in worse)) if worse else ""
    return RaceStage(row["photos"], row["cells"], len(worse), outranked, row["cells"] - len(row["dropped"]), closest)


def _sentences(race: Row, steps: list[tuple[int, int]], dropped: int) -> list[str]:
    made, exhaustive = race["evaluations"], race["exhaustive_evaluations"]
    share = made / exhaustive if exhaustive else 1.0
    first, last = steps[0][1], steps[-1][1]
    return [
        f"{last:,} of {counted(first, 'setting')} restored all {race['photos']} photographs; {dropped:,} left earlier.",
        f"That took {made:,} of {exhaustive:,} denoiser evaluations, {percent(share)}: {percent(1 - share)} are saved.",
        f"A setting leaves when it is worse than the leader at {percent(race['confidence'])} confidence (surely worse: "
        "one-sided Wilcoxon test on the composites of the same photographs), or when so many others are ahead of it "
        "that it has no place among those that may go on (outranked).",
    ]


def _exit(row: Row, photos: int, names: dict[str, str]) -> Exit:
    why = "surely worse" if row.get("why", "worse") == "worse" else "outranked"
    return Exit(
        name=names.get(row["id"], str(row["id"])),
        photos=photos,
        rival=names.get(row["rival"], str(row["rival"])),
        difference=f"{signed(row['difference'], 2)}{SPACE}points",
        p=chance(row["p"]),
        why=why,
    )
