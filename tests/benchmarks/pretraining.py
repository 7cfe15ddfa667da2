"""What a base training reached, each number beside its limit.

    python tests/benchmarks/pretraining.py WORK PHOTOS

WORK is the folder of a finished `photo-enhancer pretrain`, PHOTOS a folder of clean photographs that it never saw.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from lora_core.bases.base import Base, to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import BaseModelSection, load_preset
from lora_core.files import read_json
from lora_core.images import list_photos, read_rgb
from lora_core.lora import attach
from lora_core.metrics import psnr_rgb
from lora_core.pretraining.work import BaseWork
from lora_core.restoration import denoisings_of, restore_latents, return_detail
from lora_core.training.log import read_log


def main() -> None:
    """Prints the table."""
    work, photos = BaseWork(Path(sys.argv[1])), list_photos(Path(sys.argv[2]))
    torch.set_grad_enabled(False)
    base = open_base(BaseModelSection(model=str(work.base)))
    stages = {name: read_json(work.root / name / "done.json") for name in ("autoencoder", "unet")}
    crops = [centre(read_rgb(path), 128) for path in photos]
    quality = float(np.mean([psnr_rgb(crop, round_trip(base, crop)) for crop in crops]))
    size = sum(file.stat().st_size for file in work.base.rglob("*") if file.is_file()) / 2**20
    seconds = enhance_seconds(base, centre(read_rgb(photos[0]), 256))
    print(f"{'':58}{'measured':>12}{'limit':>12}{'ratio':>9}")
    row(f"autoencoder, dB PSNR-RGB on {len(crops)} centre crops of 128x128", quality, 32, "at least")
    for name, done in stages.items():
        row(f"{name}: share of wall time in the step, %", 100 * done["busy"], 95, "at least")
    row("size of the base, MiB (fp16)", size, 16, "at most")
    row("seconds to enhance one 256x256 photograph (LoRA rank 32)", seconds, 2, "at most")
    for name, done in stages.items():
        images = done["images"] - first_image(work.root / name / "log.jsonl")
        speed = images / done["seconds"]
        print(f"{name}: {images:,} images in {done['seconds'] / 60:.1f} min, {speed:.1f} a second")
    values = read_json(work.evaluation)
    shares = {place: loss / values["mean_predictor"][place] for place, loss in values["loss_by_timestep"].items()}
    print("validation loss as a share of answering the mean: ", end="")
    print(", ".join(f"t={place} {share:.1%}" for place, share in shares.items()))


def row(what: str, measured: float, limit: float, kind: str) -> None:
    """One measurement, its limit, and their ratio, above 1 where the limit is kept."""
    ratio = measured / limit if kind == "at least" else limit / measured
    print(f"{what:58}{measured:12.2f}{kind[3:]:>7}{limit:>5}{ratio:8.2f}x")


def first_image(log: Path) -> int:
    """Images that the weights had seen before this run, read off its log."""
    one, other = read_log(log)[:2]
    per_update = (other["images"] - one["images"]) // (other["update"] - one["update"])
    return one["images"] - one["update"] * per_update


def centre(image: np.ndarray, side: int) -> np.ndarray:
    """The centre crop."""
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def round_trip(base: Base, rgb: np.ndarray) -> np.ndarray:
    """Encoded, decoded and rounded."""
    return to_rgb(base.decode(base.encode(to_pixels(rgb)[None])))[0]


def enhance_seconds(base: Base, rgb: np.ndarray) -> float:
    """Median seconds of five restorations: encode, one denoiser step with a LoRA, decode, detail return."""
    experiment = load_preset("pocket")
    how = denoisings_of(base.scheduler_config, experiment.sweep)[0]
    attach(base, experiment.adapter, 0)
    text, times = base.encode_prompt(["", experiment.data.prompt]), []
    for _ in range(6):
        began = time.perf_counter()
        pixels = to_pixels(rgb)[None].to(base.device)
        latents = base.encode(pixels)
        restored = restore_latents(base, latents, text, [how], torch.zeros_like(latents))
        to_rgb(return_detail(base.decode(restored), pixels - base.decode(latents), 1.0))
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


if __name__ == "__main__":
    main()
