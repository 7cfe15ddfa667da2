"""The form in which a person decides about a candidate."""

from copy import copy
from typing import Any, Literal

from prefect.input import RunInput
from pydantic import Field, create_model


class PromotionForm(RunInput):
    """What shall become of the candidate?"""

    decision: Literal["approve", "reject", "try again"] = Field(
        description="approve: it becomes the champion. reject: the champion stays. try again: the champion stays, and "
        "another tuning is started with the overrides below.",
        json_schema_extra={"position": 0},
    )
    note: str = Field(
        default="",
        description="Why; it stays with the study, is shown in its report, and is told to the rounds that follow.",
        json_schema_extra={"position": 1},
    )
    overrides: list[str] = Field(
        default=[],
        description="For try again: what to change, each as section.key=value, e.g. training.epochs=30; "
        "tuning.rounds=12 prolongs this study, all else becomes a study of its own.",
        json_schema_extra={"position": 2},
    )


def form(question: str, answered: PromotionForm | None = None) -> type[PromotionForm]:
    """The form with a question above it, filled in as it was before.

    Args:
        question: Markdown.
        answered: an earlier answer that could not be taken.
    """
    fields: dict[str, Any] = {}
    for name, field in PromotionForm.model_fields.items() if answered else ():
        filled = copy(field)
        filled.default = getattr(answered, name)
        fields[name] = (field.annotation, filled)
    made = create_model(PromotionForm.__name__, __base__=PromotionForm, **fields)
    made._description = question
    return made
