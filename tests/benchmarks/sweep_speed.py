"""Pictures a second of the sweep against diffusers' img2img pipeline called picture by picture, both written as PNG.

    python tests/benchmarks/sweep_speed.py

The pocket base with LoRAs of random weights, crops of the photographs that ship with scikit-image, on this machine's
CPU. The pipeline is called for each picture as its documentation does, with the LoRAs loaded once. Each side runs in a
process of its own, ours with the environment that the product gives it, and they take turns. The largest difference of
their pictures (0 to 1, before rounding) is printed too.

First the round of the pocket preset: the base alone and two checkpoints, and of each denoising the three shares of
returned detail, for which the pipeline is called three times; returning the detail would cost it more and is left out.
Then grids of one checkpoint in which each of four strengths is a denoising of its own.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
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
from lora_core.merging import in_place
from lora_core.process import child_environment
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


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    settings: tuple[str, ...]
    side: int
    photos: int
    checkpoints: int
    with_base: bool

    @property
    def steps(self) -> int:
        """Denoiser evaluations of a picture."""
        return int(self.experiment().sweep.steps[0])

    def experiment(self) -> Experiment:
        """The pocket preset with the row's settings."""
        return apply_overrides(load_preset("pocket"), list(self.settings))


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--photos", type=int, default=12)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    print(f"$ python tests/benchmarks/sweep_speed.py --photos {given.photos} --repeats {given.repeats}\n")
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{given.photos} photographs, pocket base, LoRAs of rank 16 on all layers")
    with ExitStack() as stack:
        sides = [stack.enter_context(own_process(changes)) for changes in (child_environment(), {})]
        print_header("The preset's round: base and 2 checkpoints, 3 strengths, 3 shares of returned detail")
        for side in (128, 256):
            print_row(Row((*LORA, "sweep.steps=[1]"), side, given.photos, 2, with_base=True), sides, given.repeats)
        print_header("1 checkpoint, 4 strengths, one picture from each denoising")
        for side in (128, 256):
            for count in (1, 4, 10, 20):
                row = Row((*ONE_EACH, f"sweep.steps=[{count}]"), side, given.photos, 1, with_base=False)
                print_row(row, sides, given.repeats)


def own_process(changes: Mapping[str, str]) -> ProcessPoolExecutor:
    """A process with these changes to the environment, which must be there when it starts."""
    before = dict(os.environ)
    try:
        os.environ.update(changes)
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        pool.submit(int).result()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return pool


def print_header(title: str) -> None:
    """Above the rows of a kind."""
    print(f"\n{title}\n")
    print("side  steps   sweep/s of each run    pipeline/s of each run   ratio of medians    largest difference")


_made: dict[str, "Setting"] = {}
"""The setting of the row under way, in the process of each side."""


def set_up(row: Row, folder: Path, who: str) -> int:
    """Opens a side's models and runs it once, on one photograph; returns how many pictures a run makes."""
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore", message="Already found a `peft_config`")
    _made[""] = setting = Setting(row, folder)
    all_pictures = setting.pictures
    setting.pictures = dict([next(iter(all_pictures.items()))])
    getattr(setting, who)("warm-up")
    setting.pictures = all_pictures
    return len(setting.pictures) * len(setting.cells)


def call(what: str, *arguments: Any) -> float:
    """A method of the setting."""
    return float(getattr(_made[""], what)(*arguments))


class Setting:
    """Both sides of one line of the table, ready to run."""

    def __init__(self, row: Row, folder: Path) -> None:
        self.experiment, self.folder = row.experiment(), folder
        self.base = open_base(self.experiment.base, torch.device("cpu"))
        self.base.vae.to(memory_format=torch.channels_last)
        self.pictures = shipped_crops(row.side, row.photos)
        self.adapter = attach(self.base, self.experiment.adapter, 0)
        self.ways = denoisings_of(self.base.scheduler_config, self.experiment.sweep)
        self.checkpoints = [Checkpoint(None, "base", None)] if row.with_base else []
        for epoch in range(1, 1 + row.checkpoints):
            randomise(self.adapter, epoch)
            save_lora(self.adapter, folder / f"epoch-{epoch}", {})
            self.checkpoints.append(Checkpoint(epoch, f"random {epoch}", folder / f"epoch-{epoch}"))
        self.cells = make_cells(self.checkpoints, self.ways, self.experiment, "benchmark")
        self.pipeline = open_peer(self.experiment, self.checkpoints)

    def sweep(self, run: str) -> float:
        """Seconds from degraded photographs to PNG files."""
        study = StudyFolder(self.folder / run)
        began = time.perf_counter()
        inputs = encode_inputs(self.base, self.pictures, self.experiment.sweep.batch)
        text = self.base.encode_prompt(["", self.experiment.data.prompt])
        painter = Painter(study, self.base, 0, self.experiment.sweep.batch, Turns(WHOLE, 1), lambda _: None, study.root)
        for checkpoint in self.checkpoints:
            cells = [cell for cell in self.cells if cell.checkpoint == checkpoint]
            with in_place(self.adapter, checkpoint.folder):
                painter.paint(painter.missing(cells, inputs), text)
        return time.perf_counter() - began

    def peer(self, run: str) -> float:
        """The same by the pipeline."""
        folder = self.folder / run
        folder.mkdir()
        began = time.perf_counter()
        for checkpoint in self.checkpoints:
            self._put_in_place(checkpoint)
            for name, picture in self.pictures.items():
                image = Image.fromarray(picture)
                for cell in (cell for cell in self.cells if cell.checkpoint == checkpoint):
                    made = self._call(image, cell.denoising, generator=torch.Generator().manual_seed(0))
                    made[0].save(folder / f"{name}-{cell.id}.png")
        return time.perf_counter() - began

    def _put_in_place(self, checkpoint: Checkpoint) -> None:
        if checkpoint.folder is None:
            self.pipeline.disable_lora()
        else:
            self.pipeline.enable_lora()
            self.pipeline.set_adapters(f"epoch-{checkpoint.epoch}")

    def difference(self) -> float:
        """The largest difference of both sides on the first photograph, given the same noise."""
        name, picture = next(iter(self.pictures.items()))
        one: Input = encode_inputs(self.base, {name: picture}, 1)[0]
        noise, text, worst = one.noise(0)[None], self.base.encode_prompt(["", self.experiment.data.prompt]), 0.0
        self._put_in_place(self.checkpoints[-1])
        for way in self.ways:
            with in_place(self.adapter, self.checkpoints[-1].folder):
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


def open_peer(experiment: Experiment, checkpoints: list[Checkpoint]) -> Any:
    """The pipeline as a user would set it up."""
    parts = open_pipeline(experiment.base).components
    pipeline = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    # Where 1000 is no multiple of the steps, diffusers' DDIM leaves its own grid (lora_core.restoration).
    pipeline.scheduler.final_alpha_cumprod = torch.tensor(1.0)
    for one in checkpoints:
        if one.folder:
            pipeline.load_lora_weights(str(one.folder), adapter_name=f"epoch-{one.epoch}")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def print_row(row: Row, sides: list[ProcessPoolExecutor], repeats: int) -> None:
    """Runs both sides in turn, after one of each on one photograph that does not count."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        names = ("sweep", "peer")
        for pool, name, folder in zip(sides, names, (ours, theirs), strict=True):
            pictures = pool.submit(set_up, row, Path(folder), name).result()
        runs = [
            [pool.submit(call, name, f"run-{run}").result() for pool, name in zip(sides, names, strict=True)]
            for run in range(repeats)
        ]
        difference = sides[0].submit(call, "difference").result()
    speeds = [sorted(pictures / run[who] for run in runs) for who in (0, 1)]
    ratio = float(np.median(speeds[0]) / np.median(speeds[1]))
    shown = [" ".join(f"{value:6.1f}" for value in values) for values in speeds]
    verdict = "reached" if ratio >= GOAL else "missed"
    print(
        f"{row.side:4d}  {row.steps:5d}   {shown[0]:22s}  {shown[1]:22s}  {ratio:5.2f} goal >= {GOAL:g} {verdict}"
        f"   {difference:.1e}", flush=True,
    )  # fmt: skip


def randomise(adapter: Adapter, epoch: int) -> None:
    """Small random weights, so that the LoRA does something."""
    for number, parameter in enumerate(adapter.parameters()):
        generator = torch.Generator().manual_seed(1000 * epoch + number)
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02


def shipped_crops(side: int, count: int) -> dict[str, np.ndarray]:
    """Centre crops of scikit-image's photographs, and of their mirror images where those do not suffice."""
    folder = Path(skimage.__file__).parent / "data"
    crops = [centre_crop(read_rgb(folder / name), side) for name in PHOTOS]
    crops += [np.ascontiguousarray(one[:, ::-1]) for one in crops]
    return {f"photo-{number:02d}": crop for number, crop in enumerate(crops[:count])}


if __name__ == "__main__":
    main()
