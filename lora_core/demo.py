"""Photographs for the demonstration: parts of the free ones that scikit-image ships, so that nothing is downloaded."""

from pathlib import Path
from tempfile import TemporaryDirectory

import skimage

from lora_core.images import read_rgb, write_png
from lora_core.preparation import create_workspace
from lora_core.workspace import Workspace

TILE = 192
"""Side of a part in pixels; a training crop is 128."""

SETTINGS = (
    "name=demo",
    "data.test_size=null",
    "training.epochs=3",
    "training.checkpoint_every=1",
    "training.learning_rate=2.0e-4",
    "tuning.rounds=2",
)
"""What differs from the preset `pocket`: gentle and short, as parts of three photographs are soon learnt by heart."""

# File, and (rows, columns) of the parts cut from its middle. All are in the public domain or CC0 (skimage/data/README).
_TRAINING = {"astronaut.png": (2, 2), "motorcycle_left.png": (2, 3), "rocket.jpg": (2, 3)}
_TEST = {"coffee.png": (2, 3), "chelsea.png": (1, 2)}


def write_demo_photographs(training: Path, test: Path) -> None:
    """Writes 16 parts of three photographs to train on and 8 parts of two others to score on, as PNG.

    Args:
        training: folder, created where it is missing.
        test: likewise.
    """
    for folder, photographs in ((training, _TRAINING), (test, _TEST)):
        for name, (rows, columns) in photographs.items():
            rgb = read_rgb(Path(skimage.__file__).parent / "data" / name)
            top, left = (rgb.shape[0] - rows * TILE) // 2, (rgb.shape[1] - columns * TILE) // 2
            for number in range(rows * columns):
                y, x = top + number // columns * TILE, left + number % columns * TILE
                write_png(folder / f"{Path(name).stem}-{number}.png", rgb[y : y + TILE, x : x + TILE])


def create_demo(root: Path) -> None:
    """Makes the demonstration's workspace, unless it is there: the pocket base, small photographs, two rounds.

    Raises:
        ResourceError: the place cannot be written.
    """
    if Workspace(root).experiment.exists():
        return
    with TemporaryDirectory() as temporary:
        training, test = Path(temporary) / "train", Path(temporary) / "test"
        write_demo_photographs(training, test)
        create_workspace(root, "pocket", training, test, assignments=SETTINGS)
