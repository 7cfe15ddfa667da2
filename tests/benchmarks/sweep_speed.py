"""Pictures a second of the sweep against diffusers' img2img pipeline called picture by picture, both written as PNG.

    python tests/benchmarks/sweep_speed.py

The pocket base with a LoRA of random weights, crops of the photographs that ship with scikit-image, on this machine's
CPU. The pipeline is called for each picture as its documentation does, with the LoRA loaded once. The largest
difference of their pictures (0 to 1, before rounding) is printed too.

First the grid of the pocket preset: its three shares of returned detail are finished from one denoising, for which the
pipeline is called three times; returning the detail would cost it more and is left out. Then grids without that, in
which each of four strengths is a denoising of its own.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from machine import processor
from PIL import Image

from lora_core.bases.base import to_pixels
from lora_core.bases.stable_diffusion import open_base, open_pipeline
from lora_core.denoising import Denoising
from lora_core.experiment import Experiment, apply_overrides, load_preset
from lora_core.images import centre_crop, read_rgb
from lora_core.lora import Adapter, attach, save_lora
from lora_core.merging import merged
from lora_core.restoration import denoisings_of, restore_latents
from lora_core.share import WHOLE, Turns
from lora_core.sweep.grid import Checkpoint, make_cells
from lora_core.sweep.inputs import Input, encode_inputs
from lora_core.sweep.painter import Painter
from lora_core.workspace import StudyFolder

GOAL = 3.0
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg")
LORA = ["adapter.rank=16", "adapter.alpha=16"]
ONE_EACH = [*LORA, "sweep.start_noises=[1.0]", "sweep.detail_returns=[0.0]", "sweep.strengths=[0.1, 0.2, 0.5, 1.0]"]


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--photos", type=int, default=12)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    torch.set_grad_enabled(False)
    print(f"$ python tests/benchmarks/sweep_speed.py --photos {given.photos} --repeats {given.repeats}\n")
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{given.photos} photographs, pocket base, LoRA of rank 16 on all layers")
    print_table("The preset's grid: 3 strengths, 3 shares of returned detail", LORA, (1,), given)
    print_table("4 strengths, one picture from each denoising", ONE_EACH, (1, 4, 10, 20), given)


def print_table(title: str, settings: list[str], steps: tuple[int, ...], given: argparse.Namespace) -> None:
    """Both sizes at every number of steps."""
    print(f"\n{title}\n")
    print("side  steps   sweep/s of each run    pipeline/s of each run   ratio of medians    largest difference")
    for side in (128, 256):
        for count in steps:
            experiment = apply_overrides(load_preset("pocket"), [*settings, f"sweep.steps=[{count}]"])
            with tempfile.TemporaryDirectory() as folder:
                print_row(Setting(experiment, Path(folder), side, given.photos), given.repeats)


class Setting:
    """Both sides of one line of the table, ready to run."""

    def __init__(self, experiment: Experiment, folder: Path, side: int, photos: int) -> None:
        self.experiment, self.folder = experiment, folder
        self.base = open_base(experiment.base, torch.device("cpu"))
        self.base.vae.to(memory_format=torch.channels_last)
        self.pictures = shipped_crops(side, photos)
        self.adapter = attach(self.base, experiment.adapter, 0)
        randomise(self.adapter)
        save_lora(self.adapter, folder / "checkpoints" / "lora", {})
        self.ways = denoisings_of(self.base.scheduler_config, experiment.sweep)
        checkpoint = Checkpoint(1, "random", folder / "checkpoints" / "lora")
        self.cells = make_cells([checkpoint], self.ways, experiment, "benchmark")
        self.pipeline = open_peer(experiment, folder / "checkpoints" / "lora")

    def sweep(self, run: int) -> float:
        """Seconds from degraded photographs to PNG files."""
        study = StudyFolder(self.folder / f"run-{run}")
        began = time.perf_counter()
        inputs = encode_inputs(self.base, self.pictures, self.experiment.sweep.batch)
        text = self.base.encode_prompt(["", self.experiment.data.prompt])
        painter = Painter(study, self.base, 0, self.experiment.sweep.batch, Turns(WHOLE, 1), lambda _: None, study.root)
        with merged(self.adapter):
            painter.paint(painter.missing(self.cells, inputs), text)
        return time.perf_counter() - began

    def peer(self, run: int) -> float:
        """The same by the pipeline."""
        folder = self.folder / f"peer-{run}"
        folder.mkdir()
        began = time.perf_counter()
        for name, picture in self.pictures.items():
            image = Image.fromarray(picture)
            for cell in self.cells:
                made = self._call(image, cell.denoising, generator=torch.Generator().manual_seed(0))
                made[0].save(folder / f"{name}-{cell.id}.png")
        return time.perf_counter() - began

    def difference(self) -> float:
        """The largest difference of both sides on the first photograph, given the same noise."""
        name, picture = next(iter(self.pictures.items()))
        one: Input = encode_inputs(self.base, {name: picture}, 1)[0]
        noise, text, worst = one.noise(0)[None], self.base.encode_prompt(["", self.experiment.data.prompt]), 0.0
        for way in self.ways:
            ours = self.base.decode(restore_latents(self.base, one.latents[None], text, [way], noise)) / 2 + 0.5
            noised = self.pipeline.scheduler.add_noise(
                one.latents[None], way.start_noise * noise, torch.tensor([way.start.timesteps[0]])
            )
            kept, self.pipeline.prepare_latents = self.pipeline.prepare_latents, lambda *_, it=noised, **__: it.clone()
            theirs = self._call(to_pixels(picture)[None], way, output_type="pt")
            self.pipeline.prepare_latents = kept
            worst = max(worst, float((ours.clamp(0, 1) - theirs).abs().max()))
        return worst

    def _call(self, image: Any, way: Denoising, **options: Any) -> Any:
        return self.pipeline(
            self.experiment.data.prompt, image=image, strength=way.start.strength, guidance_scale=1.0,
            num_inference_steps=way.start.num_inference_steps, **options,
        ).images  # fmt: skip


def open_peer(experiment: Experiment, lora: Path) -> Any:
    """The pipeline as a user would set it up."""
    parts = open_pipeline(experiment.base).components
    pipeline = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    # Where 1000 is no multiple of the steps, diffusers' DDIM leaves its own grid (lora_core.restoration).
    pipeline.scheduler.final_alpha_cumprod = torch.tensor(1.0)
    pipeline.load_lora_weights(str(lora))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def print_row(setting: Setting, repeats: int) -> None:
    """Runs both sides in turn, after one of each that does not count."""
    setting.sweep(-1), setting.peer(-1)
    runs = [(setting.sweep(run), setting.peer(run)) for run in range(repeats)]
    pictures = len(setting.pictures) * len(setting.cells)
    ours, theirs = (sorted(pictures / run[who] for run in runs) for who in (0, 1))
    ratio = float(np.median(ours) / np.median(theirs))
    side, steps = next(iter(setting.pictures.values())).shape[0], setting.ways[0].start.steps
    shown = [" ".join(f"{value:6.1f}" for value in values) for values in (ours, theirs)]
    verdict = "reached" if ratio >= GOAL else "missed"
    print(
        f"{side:4d}  {steps:5d}   {shown[0]:22s}  {shown[1]:22s}  {ratio:5.2f} goal >= {GOAL:g} {verdict}"
        f"   {setting.difference():.1e}", flush=True,
    )  # fmt: skip


def randomise(adapter: Adapter) -> None:
    """Small random weights, so that the LoRA does something."""
    for number, parameter in enumerate(adapter.parameters()):
        generator = torch.Generator().manual_seed(number)
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02


def shipped_crops(side: int, count: int) -> dict[str, np.ndarray]:
    """Centre crops of scikit-image's photographs, and of their mirror images where those do not suffice."""
    folder = Path(skimage.__file__).parent / "data"
    crops = [centre_crop(read_rgb(folder / name), side) for name in PHOTOS]
    crops += [np.ascontiguousarray(one[:, ::-1]) for one in crops]
    return {f"photo-{number:02d}": crop for number, crop in enumerate(crops[:count])}


if __name__ == "__main__":
    main()
