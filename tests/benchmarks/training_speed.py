"""How fast a LoRA trains: images a second beside diffusers' own script and kohya's, and the seconds to start.

    python tests/benchmarks/training_speed.py --diffusers DIFFUSERS --kohya SD_SCRIPTS [--kohya-python PYTHON]

DIFFUSERS and SD_SCRIPTS are checkouts of huggingface/diffusers (its `examples` are enough) and kohya-ss/sd-scripts;
this was written with their releases 0.40.0 and 0.10.1. kohya pins older libraries than ours: PYTHON is that of an
environment of its own. Either may be left out. Their scripts run as they are, with one exception: kohya's is told the
widths of the UNet, which it knows for SD 1.5 alone.

Every run trains the same model (SD 1.5 with every width divided by four, so that autoencoder, text encoder and UNet
cost what they cost there, relative to each other; random weights) on the same parts of photographs with the same
caption, batch, number of updates, rank and optimiser (AdamW), in fp32 on the CPU with the same number of threads, each
trainer's waiting as it does where nobody tells them otherwise. The
layers differ between the two peers, and ours is run with those of each: diffusers' script has the attention
projections, kohya's all linear layers of the transformers, feed-forward and projections included. Ours and kohya's
cache the latents; diffusers' encodes every image anew. Ours also keeps the answer of the text encoder. None validates
or makes sample pictures.

Speed is the number of images between two updates past the warm-up, divided by the wall time between them, as the
trainers' own TensorBoard files have it. The runs take turns, so that a busy machine slows all alike; the machine
should be idle all the same. Start-up is from the launch to the end of the first update, latents cached before.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import skimage
from machine import processor
from training_peers import (
    REPEATS,
    Job,
    Times,
    Trainer,
    diffusers_script,
    diffusers_trainer,
    environment,
    kohya_script,
    kohya_trainer,
    program,
    read_times,
    versions,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lora_core.experiment import load_experiment, with_values
from lora_core.files import file_digest
from lora_core.images import list_photos, read_rgb, write_png
from lora_core.preparation import create_workspace, prepare
from lora_core.randomness import numpy_generator
from lora_core.training.launch import train_round
from lora_core.workspace import Workspace
from tests.miniature import QUARTER, miniature_base

PHOTOS = ("astronaut.png", "motorcycle_left.png", "rocket.jpg", "coffee.png", "chelsea.png")
"""Photographs that scikit-image ships."""

TRAINING, TEST = 8, 2
CAPTION = "a photo"
GOALS = {"diffusers": 2.0, "kohya": 1.3}
START_UP_GOAL = 15.0
OURS = "Photo Enhancer"
OUR_TAG = "training/loss"
"""The scalar that our training logs; its steps are images."""


@dataclass(frozen=True)
class Runner:
    """One trainer with its layers; `peer` is the rival it is compared with, or itself."""

    name: str
    layers: str
    peer: str
    train: Trainer


def main() -> None:
    """Runs the trainers in turn and prints the table."""
    options = arguments()
    os.environ.update(environment(options.threads))
    with TemporaryDirectory(dir=options.work) as temporary:
        root = Path(temporary).resolve()
        miniature_base(root / "base", sizes=QUARTER)
        write_parts(photo_paths(options.photos), options.resolution, root / "train", root / "test")
        workspace = make_workspace(root, options)
        runners = make_runners(workspace, options)
        print_settings(options)
        for batch in options.batches:
            results = measure(runners, make_job(root, options, batch), root / f"batch-{batch}", options.repeats)
            print_results(runners, results, batch, options.warm_up * batch)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffusers", type=Path, help="checkout of huggingface/diffusers")
    parser.add_argument("--diffusers-python", type=program, default=sys.executable)
    parser.add_argument("--kohya", type=Path, help="checkout of kohya-ss/sd-scripts")
    parser.add_argument("--kohya-python", type=program, default=sys.executable)
    parser.add_argument("--photos", type=Path, help="folder of photographs (default: those of scikit-image)")
    parser.add_argument("--work", type=Path, help="where the temporary folder is made")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--updates", type=int, default=80, help="of a run, rounded up to whole epochs")
    parser.add_argument("--warm-up", type=int, default=16, help="updates that are not counted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def photo_paths(folder: Path | None) -> list[Path]:
    """The photographs, each read once."""
    return list_photos(folder) if folder else [Path(skimage.__file__).parent / "data" / name for name in PHOTOS]


def write_parts(photos: list[Path], side: int, training: Path, test: Path) -> None:
    """Writes square parts of the photographs, side by side in turn, at places that depend on their number alone."""
    for number in range(TRAINING + TEST):
        rgb = read_rgb(photos[number % len(photos)])
        if min(rgb.shape[:2]) < side:
            raise SystemExit(f"{photos[number % len(photos)]} is smaller than {side} pixels")
        draw = numpy_generator("training speed", number)
        top, left = (int(draw.integers(length - side + 1)) for length in rgb.shape[:2])
        folder = training if number < TRAINING else test
        write_png(folder / f"{number}.png", rgb[top : top + side, left : left + side])


def make_workspace(root: Path, options: argparse.Namespace) -> Workspace:
    """A workspace of ours in which a round can start; the latents are cached by a first short run."""
    settings = {
        "base.model": root / "base",
        "data.resolution": options.resolution,
        "data.views": 1,
        "data.flip": "false",
        "data.prompt": CAPTION,
        "objective.kind": "denoise",
        "adapter.rank": options.rank,
        "adapter.alpha": options.rank,
        "training.scheduler": "constant",
        "training.warmup": 0,
        "training.learning_rate": 1e-4,
        "monitoring.validation_photos": 0,
        "monitoring.samples": 0,
    }
    texts = [f"{key}={value}" for key, value in settings.items()]
    create_workspace(root / "work", "pocket", root / "train", root / "test", assignments=texts)
    workspace = Workspace(root / "work")
    experiment = load_experiment(workspace.experiment)
    prepare(workspace, experiment)
    train_round(workspace, with_values(experiment, {"training.epochs": 1, "name": "first"}), 0)
    return workspace


def our_trainer(workspace: Workspace, layers: str) -> Trainer:
    """Our training of one round, in the process of its own that the command line starts too."""

    def train(job: Job, out: Path) -> Times:
        epochs = job.updates * job.batch // (TRAINING * REPEATS)
        changes = {
            "name": f"{out.parent.name}-{out.name}",
            "adapter.layers": layers,
            "training.batch": job.batch,
            "training.epochs": epochs,
            "training.checkpoint_every": epochs,
        }
        experiment = with_values(load_experiment(workspace.experiment), changes)
        launched = time.time()
        train_round(workspace, experiment, 0)
        return read_times(workspace.tensorboard / experiment.name, OUR_TAG, 1, launched)

    return train


def make_runners(workspace: Workspace, options: argparse.Namespace) -> list[Runner]:
    """Ours and the peers that were named, each peer behind ours with its layers."""
    runners = []
    if options.diffusers:
        peer = diffusers_trainer(options.diffusers, options.diffusers_python)
        runners.append(Runner(OURS, "attention", "diffusers", our_trainer(workspace, "attention")))
        runners.append(Runner("diffusers", "attention", "diffusers", peer))
    if options.kohya:
        peer = kohya_trainer(options.kohya, options.kohya_python)
        runners.append(Runner(OURS, "attention-ff", "kohya", our_trainer(workspace, "attention-ff")))
        runners.append(Runner("kohya", "attention-ff", "kohya", peer))
    return runners or [Runner(OURS, "attention", OURS, our_trainer(workspace, "attention"))]


def make_job(root: Path, options: argparse.Namespace, batch: int) -> Job:
    """The job of one batch size: whole epochs of ours, which are the others' updates too."""
    epoch = TRAINING * REPEATS
    if epoch % batch:
        raise SystemExit(f"--batches {batch}: give divisors of {epoch}, the images of an epoch")
    updates = -(-options.updates * batch // epoch) * epoch // batch
    return Job(root / "base", root / "train", CAPTION, options.resolution, batch, updates, options.rank, 1e-4)


def measure(runners: list[Runner], job: Job, folder: Path, repeats: int) -> list[list[Times]]:
    """The times of each runner's repeats; one repeat of all comes before the next of any."""
    results: list[list[Times]] = [[] for _ in runners]
    for repeat in range(repeats):
        for place, runner in enumerate(runners):
            out = folder / f"run-{place}-{repeat}"
            out.mkdir(parents=True)
            results[place].append(runner.train(job, out))
    return results


def print_settings(options: argparse.Namespace) -> None:
    """What was compared, and with what."""
    model = f"SD 1.5 at a quarter of its widths, {options.resolution} pixels, fp32"
    print(f"Training of a LoRA of rank {options.rank} on {model}")
    print(f"{processor()}, {os.cpu_count()} cores, {options.threads} threads, Python {platform.python_version()}")
    print(f"{OURS}: {versions(sys.executable)}")
    for name, folder, python, script in (
        ("diffusers", options.diffusers, options.diffusers_python, diffusers_script),
        ("kohya", options.kohya, options.kohya_python, kohya_script),
    ):
        if folder:
            path = script(folder)
            print(f"{name}: {path.name} (sha256 {file_digest(path)[:12]}), {versions(python)}")


def print_results(runners: list[Runner], results: list[list[Times]], batch: int, warm_up: int) -> None:
    """The speeds of one batch size, then the ratios beside their goals; `warm_up` is in images."""
    repeats = len(results[0])
    print(f"\nbatch {batch:<12}{'layers':14}{'images/s of each run':{8 * repeats + 2}}{'median':>8}{'start-up s':>13}")
    for runner, runs in zip(runners, results, strict=True):
        speeds = [times.speed(warm_up) for times in runs]
        samples = "".join(f"{speed:8.2f}" for speed in speeds)
        start = statistics.median(times.start_up(batch, warm_up) for times in runs)
        print(f"{runner.name:18}{runner.layers:14}{samples}  {statistics.median(speeds):8.2f}{start:13.1f}", flush=True)
    for text, measured, goal, reached in verdicts(runners, results, batch, warm_up):
        print(f"{text:38}{measured:8.2f}   goal {goal:8}{'reached' if reached else 'missed'}", flush=True)


def verdicts(
    runners: list[Runner], results: list[list[Times]], batch: int, warm_up: int
) -> Iterator[tuple[str, float, str, bool]]:
    """Each goal: its name, what was measured, the goal in words, and whether it is reached."""
    speeds = {
        (runner.name, runner.peer): statistics.median(times.speed(warm_up) for times in runs)
        for runner, runs in zip(runners, results, strict=True)
    }
    for peer, goal in GOALS.items():
        if (peer, peer) in speeds:
            ratio = speeds[OURS, peer] / speeds[peer, peer]
            yield f"{OURS} / {peer}", ratio, f">= {goal}", ratio >= goal
    own = [times for runner, runs in zip(runners, results, strict=True) if runner.name == OURS for times in runs]
    start = statistics.median(times.start_up(batch, warm_up) for times in own)
    yield f"{OURS}, start-up in seconds", start, f"<= {START_UP_GOAL:g}", start <= START_UP_GOAL


if __name__ == "__main__":
    main()
