"""A base model from photographs: look at them, train the autoencoder, train the UNet, judge the base, report."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.init import init_flow
from flows.names import run_name
from flows.round import round_flow
from lora_core.pretraining.launch import settle_recipe, trains_autoencoder
from lora_core.pretraining.recipe import Recipe, RecipePreset
from lora_core.pretraining.work import BaseWork
from lora_core.workspace import Workspace
from tasks.pretrain import finish_base, note_gain, report_base, survey_images, train_stage
from tasks.restarts import refuse_endless_restarts
from tasks.root import require_inside


@flow(name="pretrain", flow_run_name=run_name("pretrain"))
def pretrain_flow(
    work: Path,
    recipe: Path | None = None,
    preset: RecipePreset | None = None,
    overrides: tuple[str, ...] = (),
    resume: Path | None = None,
) -> dict[str, Any]:
    """Trains a base from scratch or continues one; a run that was stopped goes on where it was.

    Args:
        work: The folder of this base training.
        recipe: Recipe file; empty: the recipe that the folder was begun with.
        preset: A shipped recipe instead of a file.
        overrides: Changes to the recipe, each as section.key=value.
        resume: A base or checkpoint folder to continue from, instead of training from scratch.
    """
    refuse_endless_restarts()
    require_inside(work, "work")
    if recipe:
        require_inside(recipe, "recipe")
    place = BaseWork(work)
    plan = settle_recipe(place, recipe, preset, overrides, resume)
    survey_images(place, plan)
    if trains_autoencoder(plan):
        train_stage(place, "autoencoder")
    trained = train_stage(place, "unet")
    evaluation = finish_base(place)
    report_base(place)
    if plan.evaluation.restoration_train:
        evaluation |= {"restoration": restore_on_top(place, plan)}
        report_base(place)
    return {"stopped": trained["stopped"], "evaluation": evaluation}


def restore_on_top(place: BaseWork, plan: Recipe) -> dict[str, Any]:
    """Trains a restoration LoRA on the base by the main job's own round, and notes what it gains."""
    assert plan.evaluation.restoration_train and plan.evaluation.restoration_test
    workspace = Workspace(place.root / "restoration")
    if not workspace.experiment.exists():
        init_flow(
            workspace.root,
            "pocket",
            Path(plan.evaluation.restoration_train),
            Path(plan.evaluation.restoration_test),
            overrides=(
                f"base.model={place.base.absolute()}",
                "name=restoration",
                *plan.evaluation.restoration_settings,
            ),
        )
    result = round_flow(workspace.root)
    note_gain(place, plan, result, str(workspace.study("restoration").report))
    return dict(result["winner"])
