"""Other trainers of LoRAs for Stable Diffusion, run as their own unmodified scripts: diffusers' example and kohya's.

`training_speed.py` compares with them. Both log every update to TensorBoard, which is where the times come from. They
run offline, on the CPU, in fp32, with a settings folder of their own, so that nothing on the machine changes them.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

REPEATS = 10
"""How often an epoch visits each photograph; kohya reads it off the folder's name."""

_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft")
_DIFFUSERS_SCRIPT = Path("examples/text_to_image/train_text_to_image_lora.py")
_KOHYA_SCRIPT = Path("train_network.py")
_KOHYA_TOKENIZER = "openai_clip-vit-large-patch14"  # the folder under which kohya looks for its copy
# kohya's script knows one size of UNet, written down as constants of a module: they are set before it starts.
_KOHYA_LAUNCHER = """
import json, runpy, sys
from library import original_unet
script, constants, *sys.argv[1:] = sys.argv[1:]
for name, value in json.loads(constants).items():
    assert hasattr(original_unet, name), name
    setattr(original_unet, name, value)
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


@dataclass(frozen=True)
class Job:
    """What every trainer is given.

    Attributes:
        base: the model, a diffusers folder.
        photos: folder of PNG files of the training resolution.
        resolution: side in pixels.
        batch: images an update.
        updates: weight updates of a run.
        rank: of the LoRA; alpha is the same.
    """

    base: Path
    photos: Path
    caption: str
    resolution: int
    batch: int
    updates: int
    rank: int
    learning_rate: float


@dataclass(frozen=True)
class Times:
    """When a run had seen how many images.

    Attributes:
        launched: time of the launch, seconds of `time.time`.
        images: images seen at each logged update, ascending.
        seconds: `time.time` of the same.
    """

    launched: float
    images: list[int]
    seconds: list[float]

    def speed(self, warm_up: int) -> float:
        """Images a second from the first logged update past `warm_up` images to the last.

        Raises:
            ValueError: the run is too short.
        """
        first = next((place for place, images in enumerate(self.images) if images >= warm_up), len(self.images))
        if first >= len(self.images) - 1:
            raise ValueError(f"a run of {self.images[-1]} images is too short for a warm-up of {warm_up}")
        return (self.images[-1] - self.images[first]) / (self.seconds[-1] - self.seconds[first])

    def start_up(self, batch: int, warm_up: int) -> float:
        """Seconds from the launch to the end of the first update.

        Where that is not logged by itself, the updates between it and the first logged one count as steady.
        """
        return self.seconds[0] - self.launched - (self.images[0] - batch) / self.speed(warm_up)


Trainer = Callable[[Job, Path], Times]
"""Runs a job in a folder that does not exist yet."""


def read_times(folder: Path, tag: str, images_per_step: int, launched: float) -> Times:
    """The times of a scalar in the TensorBoard files that lie anywhere under `folder`."""
    (events,) = {file.parent for file in folder.rglob("events.out.tfevents.*") if _holds(file.parent, tag)}
    scalars = _scalars(events).Scalars(tag)
    return Times(launched, [row.step * images_per_step for row in scalars], [row.wall_time for row in scalars])


def environment(threads: int) -> dict[str, str]:
    """What every trainer's process inherits: the CPU and so many threads; how they wait is each trainer's own."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def versions(python: str) -> str:
    """The versions of the libraries that a Python has, in words."""
    code = f"import importlib.metadata as m; print(*(f'{{p}} {{m.version(p)}}' for p in {_PACKAGES!r}), sep=', ')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def program(name: str) -> str:
    """The absolute path of a program; links are kept, as a virtual environment's Python is one."""
    return str(Path(shutil.which(name) or name).absolute())


def diffusers_script(folder: Path) -> Path:
    """The script in a folder with diffusers' `examples`."""
    return _existing(folder / _DIFFUSERS_SCRIPT)


def kohya_script(folder: Path) -> Path:
    """The script in a folder with kohya's sd-scripts."""
    return _existing(folder / _KOHYA_SCRIPT)


def diffusers_trainer(folder: Path, python: str) -> Trainer:
    """diffusers' `train_text_to_image_lora.py`: a LoRA on the attention projections, every image encoded anew."""
    script = diffusers_script(folder)

    def train(job: Job, out: Path) -> Times:
        _image_folder(job, out / "images")
        options = {
            "pretrained_model_name_or_path": job.base,
            "train_data_dir": out / "images",
            "resolution": job.resolution,
            "train_batch_size": job.batch,
            "max_train_steps": job.updates,
            "rank": job.rank,
            "learning_rate": job.learning_rate,
            "lr_scheduler": "constant",
            "dataloader_num_workers": 0,
            "checkpointing_steps": 10**9,
            "mixed_precision": "no",
            "report_to": "tensorboard",
            "seed": 0,
            "output_dir": out / "lora",
        }
        launched = _run([python, str(script), *_flags(options)], script.parent, out)
        return read_times(out / "lora", "train_loss", job.batch, launched)

    return train


def kohya_trainer(folder: Path, python: str) -> Trainer:
    """kohya's `train_network.py --cache_latents --sdpa`: a LoRA on all of the UNet's transformers, which is its least.

    The text encoder is run for every batch, as the script has no cache of its answers for SD 1.x, but not trained.
    """
    script = kohya_script(folder)

    def train(job: Job, out: Path) -> Times:
        _repeat_folder(job, out / "images" / f"{REPEATS}_photo")
        shutil.copytree(job.base / "tokenizer", out / "tokenizer" / _KOHYA_TOKENIZER)
        options = {
            "pretrained_model_name_or_path": job.base,
            "train_data_dir": out / "images",
            "tokenizer_cache_dir": out / "tokenizer",
            "caption_extension": ".txt",
            "resolution": job.resolution,
            "train_batch_size": job.batch,
            "max_train_steps": job.updates,
            "network_module": "networks.lora",
            "network_dim": job.rank,
            "network_alpha": job.rank,
            "network_train_unet_only": None,
            "optimizer_type": "AdamW",
            "learning_rate": job.learning_rate,
            "lr_scheduler": "constant",
            "cache_latents": None,
            "sdpa": None,
            "max_data_loader_n_workers": 0,
            "mixed_precision": "no",
            "save_model_as": "safetensors",
            "log_with": "tensorboard",
            "logging_dir": out / "log",
            "seed": 0,
            "output_dir": out / "lora",
            "output_name": "lora",
        }
        constants = json.dumps(_kohya_constants(job.base))
        command = [python, "-c", _KOHYA_LAUNCHER, str(script), constants, *_flags(options)]
        launched = _run(command, script.parent, out)
        return read_times(out / "log", "loss/current", job.batch, launched)

    return train


def _kohya_constants(base: Path) -> dict[str, Any]:
    """The UNet's widths as kohya's `library/original_unet.py` names them."""
    config = json.loads((base / "unet" / "config.json").read_text(encoding="utf-8"))
    widths, groups = config["block_out_channels"], config["norm_num_groups"]
    return {
        "BLOCK_OUT_CHANNELS": widths,
        "TIMESTEP_INPUT_DIM": widths[0],
        "TIME_EMBED_DIM": 4 * widths[0],
        "NORM_GROUPS": groups,
        "TRANSFORMER_NORM_NUM_GROUPS": groups,
    }


def _image_folder(job: Job, folder: Path) -> None:
    """The `imagefolder` layout of 🤗 datasets; it knows no repeats, so the files are there several times."""
    folder.mkdir(parents=True)
    rows = []
    for repeat in range(REPEATS):
        for photo in sorted(job.photos.iterdir()):
            name = f"{photo.stem}-{repeat}{photo.suffix}"
            shutil.copyfile(photo, folder / name)
            rows.append(json.dumps({"file_name": name, "text": job.caption}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _repeat_folder(job: Job, folder: Path) -> None:
    """kohya's layout: the number in the folder's name is the repeats, a `.txt` beside each image its caption."""
    folder.mkdir(parents=True)
    for photo in sorted(job.photos.iterdir()):
        shutil.copyfile(photo, folder / photo.name)
        (folder / photo.name).with_suffix(".txt").write_text(job.caption + "\n", encoding="utf-8")


def _run(command: list[str], folder: Path, out: Path) -> float:
    """Runs a script in its own folder; its output goes to `out/output.txt`.

    Returns:
        The time of the launch, seconds of `time.time`.
    """
    settings = {"HF_HOME": str(out / "settings"), "PYTHONDONTWRITEBYTECODE": "1"}
    with (out / "output.txt").open("wb") as output:
        launched = time.time()
        done = subprocess.run(command, cwd=folder, env=os.environ | settings, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = (out / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        raise SystemExit("\n".join([*lines[-20:], f"exit code {done.returncode}"]))
    return launched


def _flags(options: dict[str, Any]) -> list[str]:
    return [
        text
        for name, value in options.items()
        for text in ([f"--{name}"] if value is None else [f"--{name}", str(value)])
    ]


def _existing(script: Path) -> Path:
    if not script.is_file():
        raise SystemExit(f"{script} is not there")
    return script.resolve()


def _scalars(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def _holds(folder: Path, tag: str) -> bool:
    return tag in _scalars(folder).Tags()["scalars"]
