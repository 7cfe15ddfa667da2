"""The disk that a run will need, estimated before its first costly second. Imports no torch."""

import math
import os

import numpy as np

from lora_core.data.digests import DigestStore
from lora_core.experiment import Experiment
from lora_core.files import require_space
from lora_core.images import photo_names, stem
from lora_core.sweep.stages import price
from lora_core.workspace import RepeatFolder, Workspace

_PNG_BYTES_A_PIXEL = 3  # what noise needs; photographs take about two
_POCKET_LATENTS, _LATENTS, _MASK = 1, 1 / 16, 1 / 16  # numbers a pixel: 16 channels of a 4th, 4 of an 8th; of a mask
# Sum of inputs and outputs over the adapted layers, upper bounds; a LoRA of rank r has r times as many weights.
_WEIGHTS_A_RANK = {"pocket": 150_000, "attention": 400_000, "attention-ff": 700_000, "all": 1_400_000}


def check_space(workspace: Workspace, experiment: Experiment, rounds: int) -> int:
    """Estimates the bytes that twins and rounds still need, an upper bound, and compares them with the free disk.

        twins        3 B a pixel of each photograph without one
        latents      pairs x views x resolution^2 x (2 halves x numbers a pixel + mask) x 4 B (fp32) or 2 B;
                     regularisation images have one half; none with data.cache=false
        checkpoints  a round: (2 formats x checkpoints + states x numbers of one) x rank x weights a rank x 4 B;
                     a state holds the weights, two moments of the optimiser, and their average with training.ema
        pictures     a round: LoRA cells x test pixels x 3 B; the base's cells and the references once; of all cells
                     only the race's share

    Raises:
        ResourceError: less is free.
    """
    store = DigestStore(workspace)
    training, testing = _files(workspace.train_folders()), _files([RepeatFolder(workspace.test, 1)])
    space = _twin_bytes(workspace, experiment, training, testing, store)
    left = max(0, rounds - len(workspace.study(experiment.name).rounds()))
    if left:
        space += _latent_bytes(workspace, experiment, len(training))
        space += left * _checkpoint_bytes(experiment) + _picture_bytes(experiment, testing, left, store)
    require_space(workspace.root, space, f"{left or rounds} round(s) of '{experiment.name}'")
    return space


def _files(folders: list[RepeatFolder]) -> list[str]:
    return [os.path.join(folder.path, name) for folder in folders for name in photo_names(folder.path)]


def _twin_bytes(
    workspace: Workspace, experiment: Experiment, training: list[str], testing: list[str], store: DigestStore
) -> int:
    if experiment.degradation.preset == "own":
        return 0
    pixels = 0
    for photos, folder in ((training, workspace.degraded), (testing, workspace.test_degraded)):
        made = {_stem(name) for name in photo_names(folder)} if folder.is_dir() else set()
        pixels += int(_pixels([photo for photo in photos if _stem(photo) not in made], store).sum())
    return pixels * _PNG_BYTES_A_PIXEL


def _latent_bytes(workspace: Workspace, experiment: Experiment, photos: int) -> int:
    data = experiment.data
    if not data.cache:
        return 0
    half = _POCKET_LATENTS if experiment.base.model == "pocket" else _LATENTS
    numbers = photos * (2 * half + _MASK * (data.masks != "none"))
    if experiment.objective.prior_images:
        numbers += half * len(_files(workspace.prior_folders()))
    return int(numbers * data.views * data.resolution**2 * (4 if experiment.base.precision == "fp32" else 2))


def _checkpoint_bytes(experiment: Experiment) -> int:
    kind = "pocket" if experiment.base.model == "pocket" else experiment.adapter.layers
    adapter = experiment.adapter.rank * _WEIGHTS_A_RANK[kind] * 4
    training = experiment.training
    states = (training.keep_states + 1 + training.keep_best) * (3 + (training.ema is not None))  # one is under way
    return (2 * _checkpoints(experiment) + states) * adapter


def _picture_bytes(experiment: Experiment, testing: list[str], rounds: int, store: DigestStore) -> int:
    grid, side = experiment.sweep, experiment.data.test_size
    axes = (
        grid.strengths, grid.start_noises, grid.steps, grid.detail_returns, grid.colour_fixes, grid.samplers,
        grid.guidance_scales, grid.seeds,
    )  # fmt: skip
    settings = math.prod(len(axis) for axis in axes)
    pixels = _pixels(testing[: experiment.data.test_limit], store)
    scored = int(np.minimum(pixels, side**2).sum() if side else pixels.sum())
    references = 6  # original, input, autoencoder, three classical ones
    share = price(len(testing[: experiment.data.test_limit]), grid.race_confidence) if grid.race and testing else 1
    ladders = _checkpoints(experiment) * len(grid.lora_scales) * rounds + 1
    return int((settings * ladders * share + references) * scored * _PNG_BYTES_A_PIXEL)


def _checkpoints(experiment: Experiment) -> int:
    return math.ceil(experiment.training.epochs / experiment.training.checkpoint_every)


def _pixels(photos: list[str], store: DigestStore) -> np.ndarray:
    """Width times height of each by its header; an unreadable file is reported where it is decoded."""
    pixels: np.ndarray = store.sizes(photos, strict=False).astype(np.int64).prod(1)
    return pixels


def _stem(path: str) -> str:
    return stem(os.path.basename(path))
