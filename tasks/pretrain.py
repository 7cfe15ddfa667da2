"""The verbs of a base training: look at the images, train the autoencoder, train the UNet, finish and judge."""

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.pretraining.data.survey import Survey
from lora_core.pretraining.recipe import Recipe
from lora_core.pretraining.work import BaseWork
from tasks.progress import progress_bar
from tasks.retries import AFTER_A_KILL
from tasks.slots import gpu_slot


@task(name="survey images", cache_policy=NO_CACHE)
def survey_images(work: BaseWork, recipe: Recipe) -> Survey:
    """Checks the recipe, the disk and every image; each reject is named in data/rejects.jsonl."""
    from lora_core.pretraining.launch import begin

    with progress_bar("looking at images", 0) as progress:
        return begin(work, recipe, progress)


@task(
    name="train stage",
    task_run_name="train {stage}",
    cache_policy=NO_CACHE,
    **AFTER_A_KILL,
)
def train_stage(work: BaseWork, stage: str) -> dict[str, Any]:
    """Trains one stage in a process of its own; a process that was killed goes on from its last saved state."""
    from lora_core.pretraining.launch import run_stage

    with gpu_slot():
        return run_stage(work, stage)


@task(name="finish base", cache_policy=NO_CACHE)
def finish_base(work: BaseWork) -> dict[str, Any]:
    """Puts the best checkpoint into base/, evaluates it and writes its model card."""
    from lora_core.pretraining.launch import run_stage

    with gpu_slot():
        return run_stage(work, "finish")


@task(name="write the base's report", cache_policy=NO_CACHE)
def report_base(work: BaseWork) -> str:
    """Writes report.html and returns its path."""
    from lora_core.pretraining.page import write_pretraining_report

    return str(write_pretraining_report(work.root))


@task(name="note the restoration gain", cache_policy=NO_CACHE)
def note_gain(work: BaseWork, recipe: Recipe, result: dict[str, Any], report: str) -> None:
    """Puts what a LoRA on the base gained into its evaluation and its model card."""
    from lora_core.pretraining.evaluation import note_restoration

    note_restoration(work, recipe, result, Path(report))
