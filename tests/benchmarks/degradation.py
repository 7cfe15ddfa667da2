"""What the degradation presets do to a folder of photographs: how far from the original, and how long it takes.

    python tests/benchmarks/degradation.py FOLDER

PSNR-Y is that of the 256-pixel centre crops, cropped first and then degraded; the time is processor time for a whole
photograph in one thread, without reading and writing. The pocket preset is calibrated to a mean of 25.0 to 25.8 dB.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lora_core.degradation import degrade
from lora_core.degradation.presets import RECIPES
from lora_core.files import file_digest
from lora_core.images import list_photos, read_rgb
from lora_core.metrics import psnr_y

SIDE = 256
SEED = 0


def centre(rgb: np.ndarray) -> np.ndarray:
    """The centre crop, smaller where the photograph is."""
    top, left = (max(0, (side - SIDE) // 2) for side in rgb.shape[:2])
    return rgb[top : top + SIDE, left : left + SIDE]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measure the degradation presets on a folder of photographs.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    cv2.setNumThreads(1)
    photos = [(read_rgb(path), file_digest(path)) for path in list_photos(folder)]
    height, width = np.median([rgb.shape[:2] for rgb, _ in photos], axis=0).astype(int)
    print(f"{len(photos)} photographs of about {width}x{height}, centre crops of {SIDE}, seed {SEED}")
    print(f"{'preset':<8} {'PSNR-Y mean':>12} {'10 %':>7} {'90 %':>7} {'ms a photo':>12} {'slowest':>9}")
    for preset in RECIPES:
        scores, times = [], []
        for rgb, digest in photos:
            crop = centre(rgb)
            scores.append(psnr_y(crop, degrade(crop, preset, digest, SEED).rgb))
            start = time.process_time()
            degrade(rgb, preset, digest, SEED)
            times.append(1000 * (time.process_time() - start))
        low, high = np.percentile(scores, [10, 90])
        quality = f"{np.mean(scores):>9.2f} dB {low:>7.2f} {high:>7.2f}"
        print(f"{preset:<8} {quality} {np.mean(times):>12.1f} {max(times):>9.1f}")


if __name__ == "__main__":
    main()
