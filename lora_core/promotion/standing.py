"""Where a study's candidate stands, and what a rule makes of it."""

from dataclasses import dataclass

from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import value_digest
from lora_core.promotion import Promotion
from lora_core.promotion.candidate import Candidate, find_candidate
from lora_core.promotion.contest import INPUT, Contest, contest_in_words, hold_contest
from lora_core.promotion.decisions import Choice, Decision, remember
from lora_core.promotion.versions import Version, install, present_champion, was_champion
from lora_core.workspace import Workspace


@dataclass(frozen=True)
class Standing:
    """A candidate, the champion that it would replace, and how the two compare.

    Attributes:
        champion: None where there is none yet; the rival is then the degraded input.
    """

    candidate: Candidate
    champion: Version | None
    contest: Contest

    @property
    def is_champion(self) -> bool:
        """Whether the candidate is the champion already."""
        return self.champion is not None and self.champion.is_of(self.candidate.digest)

    @property
    def digest(self) -> str:
        """sha256 of the two: a decision holds for these."""
        return value_digest([self.candidate.digest, self.rival])

    @property
    def rival(self) -> str:
        """The champion's version, or the degraded input."""
        return self.champion.name if self.champion else INPUT

    def decision(self, choice: Choice, by: str, note: str = "") -> Decision:
        """A decision about the candidate as it stands."""
        words = contest_in_words(self.contest)
        study, digest = self.candidate.run.name, self.candidate.digest
        return Decision(study, self.candidate.round, digest, self.rival, choice, by, note, words)


@dataclass(frozen=True)
class Ruling:
    """What a rule made of a study's candidate.

    Attributes:
        words: what came of it.
        undecided: the standing of a candidate that is not the champion; None where nothing is left to decide.
    """

    words: str
    undecided: Standing | None = None


def standing_of(workspace: Workspace, experiment: Experiment) -> Standing | None:
    """Where the study's candidate stands; None where no round has scores.

    Raises:
        DataError: a file of the round or of the champion is missing or damaged.
    """
    candidate = find_candidate(workspace, experiment)
    if candidate is None:
        return None
    champion = present_champion(workspace)
    return Standing(candidate, champion, _contest(candidate, champion, experiment.seed))


def require_standing(workspace: Workspace, experiment: Experiment) -> Standing:
    """As `standing_of`; a study without a candidate is an error.

    Raises:
        DataError: no round has scores, or as `standing_of`.
    """
    if (standing := standing_of(workspace, experiment)) is not None:
        return standing
    study = workspace.study(experiment.name)
    raise DataError(f"{study.root} holds no scored round, so no candidate; run: photo-enhancer tune {workspace.root}")


def promote(
    workspace: Workspace, candidate: Candidate, by: str, note: str = "", decision: str | None = None
) -> Version:
    """Makes the candidate the champion; one that it is already stays as it is.

    Args:
        workspace: the workspace.
        candidate: the new champion.
        by: what promotes it, in words.
        note: what is said about it.
        decision: digest of the decision that this carries out.
    """
    return install(workspace, candidate.digest, candidate.write, by, note, decision)


def rule(workspace: Workspace, experiment: Experiment, promotion: Promotion) -> Ruling:
    """Lets a rule decide whether the study's candidate becomes the champion; deciding again changes nothing.

    What was the champion before and is not any more was rolled back or beaten, and no rule brings it back.

    Raises:
        DataError: as `standing_of`.
        ResourceError: the champion cannot be written.
    """
    standing = standing_of(workspace, experiment)
    if standing is None:
        return Ruling("No round has scores, so there is no candidate.")
    candidate = f"Round {standing.candidate.round} of {experiment.name}"
    if standing.is_champion:
        return Ruling(f"{candidate} is the champion: {workspace.champion}")
    if promotion != "ask" and standing.champion and was_champion(workspace, standing.candidate.digest):
        words = f"{candidate} has been the champion before; {standing.champion.name}, which replaced it, stays"
        return Ruling(words, standing)
    by = f"the rule '{promotion}'"
    if promotion == "best":
        return Ruling(f"{candidate} is the champion now: {promote(workspace, standing.candidate, by).folder}")
    words = contest_in_words(standing.contest)
    if promotion == "ask":
        return Ruling(f"{candidate} waits for a decision. {words}", standing)
    choice: Choice = "approve" if standing.contest.won else "reject"
    # First, for nobody rules upon it again when it is the champion; killed in between, this is done again.
    remember(workspace.study(experiment.name), standing.decision(choice, by))
    if choice == "approve":
        version = promote(workspace, standing.candidate, by, words)
        return Ruling(f"{candidate} is the champion now: {version.folder}. {words}")
    kept = f"{standing.champion.name} stays the champion" if standing.champion else "there is still no champion"
    return Ruling(f"{candidate} was not promoted; {kept}. {words}", standing)


def _contest(candidate: Candidate, champion: Version | None, seed: int) -> Contest:
    if champion is None:
        return hold_contest(candidate.scores, None, INPUT, seed)
    settings = champion.settings
    rival = f"the champion (round {settings['round']} of {settings['name']})"
    if (scores := champion.scores) is None:
        return Contest(rival, "it is from before scores were kept by photograph")
    return hold_contest(candidate.scores, scores, rival, seed)
