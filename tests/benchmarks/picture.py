"""The picture of the README: a degraded, a restored and an original part of the demonstration's test photographs.

python tests/benchmarks/picture.py DEMO_WORKSPACE README_PICTURE.png
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from lora_core.experiment import load_experiment
from lora_core.images import read_rgb, write_png
from lora_core.lineage import read_results
from lora_core.scoring.conclusions import best_result
from lora_core.workspace import Workspace

NAMES = ("coffee-1", "chelsea-0")
GAP, SCALE = 8, 2


def main() -> None:
    """Writes the picture: a row a photograph; columns degraded, restored, original."""
    workspace, target = Workspace(Path(sys.argv[1])), Path(sys.argv[2])
    study = workspace.study(load_experiment(workspace.experiment).name)
    best = best_result(read_results(study))
    if best is None:
        raise SystemExit(f"{study.root} has no round with scores")
    winner = best["winner"]
    rows = [row_of(study.root, study.cells / winner["id"], name) for name in NAMES]
    write_png(
        target, np.vstack([part for row in rows for part in (row, np.full((GAP, row.shape[1], 3), 255, np.uint8))][:-1])
    )


def row_of(root: Path, restored: Path, name: str) -> np.ndarray:
    """Degraded, restored and original side by side, enlarged without smoothing."""
    pictures = [
        read_rgb(folder / f"{name}.png")
        for folder in (root / "test" / "degraded", restored, root / "test" / "original")
    ]
    large = [cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST) for picture in pictures]
    gap = np.full((large[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([large[0], gap, large[1], gap, large[2]])


if __name__ == "__main__":
    main()
