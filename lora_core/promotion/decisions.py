"""What was decided about a study's candidates: a file a decision, named by its content."""

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lora_core.errors import DataError
from lora_core.files import finished_files, read_json, value_digest, write_json
from lora_core.workspace import StudyFolder

Choice = Literal["approve", "reject", "try again"]
_PAST: dict[Choice, str] = {"approve": "approved", "reject": "rejected", "try again": "to be tried again"}


@dataclass(frozen=True)
class Decision:
    """What a person or a rule said about a candidate.

    Attributes:
        study: the experiment whose candidate it was.
        round: the candidate's round.
        candidate: its digest.
        champion: the version that was the champion then, or the degraded input where there was none.
        choice: to make it the champion, not to, or to try again with other settings.
        by: who or what decided, in words.
        note: why.
        contest: the candidate against the champion, in words.
        overrides: for another try, the settings as section.key=value.
        run: the Prefect flow run that asked, if one did.
        when: UTC, as ISO 8601 has it.
    """

    study: str
    round: int
    candidate: str
    champion: str
    choice: Choice
    by: str
    note: str = ""
    contest: str = ""
    overrides: tuple[str, ...] = ()
    run: str | None = None
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    @property
    def digest(self) -> str:
        """sha256 of all but the time, which names its file: to decide the same again is to decide it once."""
        return value_digest(asdict(replace(self, when="")))

    @property
    def chosen(self) -> str:
        """The choice, as what became of the candidate."""
        return _PAST[self.choice]


def read_decisions(study: StudyFolder) -> list[Decision]:
    """All decisions that a study remembers, the earliest first.

    Raises:
        DataError: a file is damaged.
    """
    found = [_read(path) for path in finished_files(study.decisions, ".json")]
    return sorted(found, key=lambda decision: (decision.when, decision.digest))


def remember(study: StudyFolder, decision: Decision) -> Decision:
    """Stores a decision; the same one is stored once, at its first time.

    Raises:
        ResourceError: the file cannot be written.
    """
    file = study.decisions / f"{decision.digest}.json"
    if file.exists():
        return _read(file)
    write_json(file, asdict(decision))
    return decision


def decision_of_run(study: StudyFolder, run: str) -> Decision | None:
    """What a flow run was told; None where it was told nothing yet."""
    return next((decision for decision in read_decisions(study) if decision.run == run), None)


def remarks(study: StudyFolder) -> list[str]:
    """What people said, for the reasons of the rounds that follow; empty where no note was left."""
    return [
        f'of round {one.round} of {one.study} it was said "{one.note}" ({one.chosen})'
        for one in read_decisions(study)
        if one.note
    ]


def _read(path: Path) -> Decision:
    values: Any = read_json(path)
    try:
        return Decision(**{**values, "overrides": tuple(values["overrides"])})
    except (TypeError, KeyError) as error:
        raise DataError(f"{path} is not a decision of this version ({error}); delete it") from error
