"""The verbs of a base training, each in a process of its own or known to be done. Imports no torch."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

from lora_core.bases import base_digest
from lora_core.bases.files import check_base
from lora_core.errors import ConfigError
from lora_core.experiment import BaseModelSection
from lora_core.files import read_json, require_space, whole_folder
from lora_core.pretraining.data.survey import Survey, survey
from lora_core.pretraining.epochs import data_advice
from lora_core.pretraining.recipe import Recipe, change_recipe, load_recipe, load_recipe_preset
from lora_core.pretraining.work import BaseWork, require_same_recipe
from lora_core.process import run_in_process
from lora_core.settings import save_settings

log = logging.getLogger(__name__)
_LEAST_DISK = 256 * 2**20


def settle_recipe(
    work: BaseWork, file: Path | None, preset: str | None, overrides: Sequence[str], resume: Path | None = None
) -> Recipe:
    """The recipe after all that was said: a file, a preset, or what the folder was begun with.

    Raises:
        ConfigError: no recipe, two of them, or one that is not valid.
    """
    if file and preset:
        raise ConfigError(f"--recipe {file} and --preset {preset} exclude each other; give one")
    if not (file or preset or work.recipe.exists()):
        raise ConfigError(f"{work.root} was not begun yet; say which base: --preset pocket, or --recipe FILE")
    recipe = load_recipe_preset(preset) if preset else load_recipe(file or work.recipe)
    changes = [*overrides, *([f"resume={resume}"] if resume else [])]
    return change_recipe(recipe, changes)


def begin(work: BaseWork, recipe: Recipe, progress: Callable[[int], object] = lambda _: None) -> Survey:
    """Checks what can be checked before the first expensive second, and looks at every image once.

    Raises:
        UserError: what is wrong with the recipe, the base to continue from, the images or the disk.
    """
    require_same_recipe(work, recipe)
    if recipe.resume:
        check_base(BaseModelSection(model=recipe.resume))
        _keep_backup(work, recipe.resume)
    require_space(work.root, _LEAST_DISK, "a base training")
    found = survey(recipe, work.data, progress)
    save_settings(recipe, work.recipe)
    rejected = f", {found.rejected} rejected ({work.data / 'rejects.jsonl'})" if found.rejected else ""
    log.info("%s images to train on, %s to validate%s", f"{found.train:,}", f"{found.validation:,}", rejected)
    log.info(data_advice(found.train))
    return found


def _keep_backup(work: BaseWork, resumed: str) -> None:
    """Copies the base that is continued, once: whatever happens to it, the run can be judged against it."""
    section = BaseModelSection(model=resumed)
    source, target = check_base(section), work.backup / base_digest(section)[:12]
    if target.exists() or not source.is_dir():
        return
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    require_space(work.root, 2 * size, f"a backup of {source}")
    with whole_folder(target) as temporary:
        copytree(source, temporary, dirs_exist_ok=True)
    log.info("%s is backed up to %s", source, target)


def run_stage(work: BaseWork, stage: str) -> dict[str, Any]:
    """Runs a stage, `autoencoder`, `unet` or `finish`, in a process of its own; one that is done returns at once.

    Returns:
        The stage's manifest; of `finish` the evaluation.

    Raises:
        UserError: what the process raised.
        ProcessDied: it was killed; calling again goes on.
    """
    processes = load_recipe(work.recipe).training.processes if stage != "finish" else 1
    run_in_process(
        "lora_core.pretraining.worker",
        [str(work.root), stage],
        work.root,
        processes=processes,
        saved=lambda: _saved(work.root / stage / "state" / "state.json"),
    )
    done = work.evaluation if stage == "finish" else work.root / stage / "done.json"
    manifest: dict[str, Any] = read_json(done)
    return manifest


def _saved(header: Path) -> int | None:
    return header.stat().st_mtime_ns if header.exists() else None


def trains_autoencoder(recipe: Recipe) -> bool:
    """Whether the recipe makes an autoencoder of its own."""
    return recipe.autoencoder.model is None and recipe.resume is None
