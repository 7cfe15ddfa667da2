"""What follows from a decision; to do it twice is to do it once."""

from lora_core.errors import DataError
from lora_core.experiment import Experiment, apply_overrides
from lora_core.promotion.candidate import find_candidate
from lora_core.promotion.decisions import Decision, remember
from lora_core.promotion.standing import promote
from lora_core.promotion.versions import Version, carried_out
from lora_core.workspace import Workspace


def approve(workspace: Workspace, experiment: Experiment, decision: Decision) -> Version:
    """Makes the approved candidate the champion, once: a flow run that starts again undoes nobody's later decision.

    A command is a decision of its own every time, though its words may be those of an earlier one.

    Raises:
        DataError: the study's candidate is another one by now.
    """
    key = decision.digest if decision.run else None
    if key and (done := carried_out(workspace, key)) is not None:
        return done
    candidate = find_candidate(workspace, experiment)
    if candidate is None or candidate.digest != decision.candidate:
        raise DataError(
            f"round {decision.round} of {decision.study} was approved, and it is not the study's candidate any more; "
            f"look at the present one with: photo-enhancer promote {workspace.root}"
        )
    return promote(workspace, candidate, decision.by, decision.note, key)


def hand_on(workspace: Workspace, experiment: Experiment, decision: Decision) -> Experiment:
    """Lets the study of the next try know what was said of the one before; returns its experiment."""
    following = apply_overrides(experiment, list(decision.overrides))
    remember(workspace.study(following.name), decision)
    return following
