"""The metrics against pyiqa and the lpips package on the same pictures, and the time that both take.

    python tests/benchmarks/metrics.py --pyiqa-python VENV/bin/python [--threads 1]

VENV has pyiqa 0.1.16 and sees the same torch. The pictures are scikit-image's photographs with five degradations each;
LPIPS and DISTS run on equal random weights in both programs, for the published ones need a download; those on VGG-16
see five of the pictures. Times are processor time of one process each with equal threads, the best of three runs after
one to warm up (VGG-16: of one), without reading files; both get what they work on: uint8 arrays here, float tensors
there. Our networks remember the features of the originals, with which a sweep compares every cell; `afresh` is without.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("astronaut", "chelsea", "coffee", "rocket")
GOALS = {"psnr_y": 0.003, "ssim_y": 1e-4, "ms_ssim": 1e-4, "gmsd": 1e-4, "lpips_alex": 1e-4, "lpips_vgg": 1e-4}
GOALS |= {"lpips_squeeze": 1e-4, "dists": 1e-4}
SUMS = {"psnr_y + ssim_y": ("psnr_y", "ssim_y"), "psnr_y + ssim_y + lpips_alex": ("psnr_y", "ssim_y", "lpips_alex")}
RUNS = 3
AFRESH = "lpips_alex afresh"
HEAVY = ("lpips_vgg", "dists")
HEAVY_PAIRS = 5


def degradations(photo: Any) -> dict[str, Any]:
    """Five pictures of one (h, w, 3) uint8 photograph."""
    import cv2
    import numpy as np

    draw = np.random.default_rng(photo.shape[1])
    height, width = photo.shape[:2]
    small = cv2.resize(photo, (width // 3, height // 3), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 20])
    noisy = photo + draw.normal(0, 15, photo.shape)
    return {
        "blur": cv2.GaussianBlur(photo, (0, 0), 2.0),
        "noise": noisy.round().clip(0, 255).astype(np.uint8),
        "small": cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC),
        "jpeg": cv2.imdecode(data, cv2.IMREAD_COLOR),
        "tint": (photo * np.array([1.0, 0.97, 0.9])).round().astype(np.uint8),
    }


def write_pictures(folder: Path) -> None:
    """pictures.npz: the originals and their degradations, and the random weights of both programs."""
    import numpy as np
    import skimage
    import torch
    import torchvision  # type: ignore[import-untyped]

    sys.path.insert(0, str(ROOT))
    from lora_core.images import read_rgb

    arrays: dict[str, Any] = {}
    for name in NAMES:
        (path,) = (Path(skimage.__file__).parent / "data").glob(f"{name}.*")
        photo = read_rgb(path)
        arrays |= {f"{name}/original": photo, **{f"{name}/{kind}": one for kind, one in degradations(photo).items()}}
    np.savez(folder / "pictures.npz", **arrays)
    torch.manual_seed(0)
    for network in ("alexnet", "vgg16", "squeezenet1_1"):
        state = getattr(torchvision.models, network)(weights=None).state_dict()
        torch.save({key: state[key] for key in state if key.startswith("features")}, folder / f"{network}.pth")
    torch.save({key: torch.rand(1, 1475, 1, 1) for key in ("alpha", "beta")}, folder / "dists.pt")


def read_pairs(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Degraded picture and original by name."""
    import numpy as np

    arrays = dict(np.load(folder / "pictures.npz"))
    return {key: (arrays[key], arrays[f"{key.split('/')[0]}/original"]) for key in arrays if "original" not in key}


def measured(
    pairs: dict[str, tuple[Any, Any]], name: str, metric: Callable[[Any, Any], float]
) -> tuple[dict[str, float], float]:
    """Scores by pair, and the seconds a pair of the best run over all."""
    heavy = name in HEAVY
    some = dict(list(pairs.items())[:: len(pairs) // HEAVY_PAIRS]) if heavy else pairs
    scores = {key: metric(*pair) for key, pair in some.items()}
    seconds = []
    for _ in range(1 if heavy else RUNS):
        started = time.process_time()
        for pair in some.values():
            metric(*pair)
        seconds.append(time.process_time() - started)
    return scores, min(seconds) / len(some)


def run_ours(folder: Path) -> dict[str, Any]:
    """Our metrics, and the core scores of a round's cells as the scorer computes them."""
    sys.path.insert(0, str(ROOT))
    import cv2
    import torch

    from lora_core import metrics
    from lora_core.experiment import ScoringSection
    from lora_core.metrics import structure
    from lora_core.metrics.registry import METRICS
    from lora_core.perceptual import memory

    threads = int(os.environ["OMP_NUM_THREADS"])
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    section = ScoringSection(
        lpips_weights=str(folder / "alexnet.pth"),
        vgg_weights=str(folder / "vgg16.pth"),
        squeezenet_weights=str(folder / "squeezenet1_1.pth"),
        dists_weights=str(folder / "dists.pt"),
    )

    def network(name: str) -> Callable[[Any, Any], float]:
        opened = METRICS[name].open(section)
        return lambda one, other: float(opened.measure(one[None], other[None])[0])

    functions: dict[str, Callable[[Any, Any], float]] = {
        "psnr_y": metrics.psnr_y,
        "ssim_y": metrics.ssim_y,
        "ms_ssim": structure.ms_ssim,
        "gmsd": metrics.gmsd,
        **{name: network(name) for name in ("lpips_alex", "lpips_vgg", "lpips_squeeze", "dists")},
    }
    with mock.patch.object(memory, "ROOM", 0):
        functions[AFRESH] = network("lpips_alex")
    pairs = read_pairs(folder)
    return {name: measured(pairs, name, function) for name, function in functions.items()}


def run_pyiqa(folder: Path) -> dict[str, Any]:
    """The same by pyiqa; its LPIPS and DISTS get the random weights, the lpips package's own heads stay."""
    import contextlib
    import io

    import lpips
    import pyiqa
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    on_y = {"test_y_channel": True, "color_space": "ycbcr"}

    def tensor(rgb: Any) -> Any:
        return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255

    def with_weights(net: str, network: str) -> Any:
        """pyiqa's own LPIPS module without a download: backbone and heads put in by hand."""
        module = lpips_class(pretrained=False, net=net)
        state = torch.load(folder / f"{network}.pth")
        names = module.net.state_dict()
        module.net.load_state_dict({name: state["features." + name.partition(".")[2]] for name in names})
        heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
        module.load_state_dict(torch.load(heads, map_location="cpu"), strict=False)
        return module.eval()

    with contextlib.redirect_stdout(io.StringIO()), no_downloads():
        from pyiqa.archs.dists_arch import DISTS
        from pyiqa.archs.lpips_arch import LPIPS as lpips_class

        dists = DISTS(pretrained=False)
        vgg = torch.load(folder / "vgg16.pth")
        own = {name: vgg["features." + name.partition(".")[2]] for name in dists.state_dict() if "weight" in name}
        own |= {name: vgg["features." + name.partition(".")[2]] for name in dists.state_dict() if "bias" in name}
        dists.load_state_dict(own | torch.load(folder / "dists.pt"), strict=False)
        modules = {
            "psnr_y": pyiqa.create_metric("psnr", device="cpu", **on_y),
            "ssim_y": pyiqa.create_metric("ssim", device="cpu", **on_y),
            "ms_ssim": pyiqa.create_metric("ms_ssim", device="cpu"),
            "gmsd": pyiqa.create_metric("gmsd", device="cpu"),
            "lpips_alex": with_weights("alex", "alexnet"),
            "lpips_vgg": with_weights("vgg", "vgg16"),
            "lpips_squeeze": with_weights("squeeze", "squeezenet1_1"),
            "dists": dists.eval(),
        }

    def called(module: Any) -> Callable[[Any, Any], float]:
        @torch.inference_mode()
        def value(one: Any, other: Any) -> float:
            return float(module(one, other))

        return value

    pairs = {key: (tensor(one), tensor(other)) for key, (one, other) in read_pairs(folder).items()}
    return {name: measured(pairs, name, called(module)) for name, module in modules.items()}


def run_lpips(folder: Path) -> dict[str, Any]:
    """The lpips package itself, its backbones given the random weights."""
    import lpips
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def tensor(rgb: Any) -> torch.Tensor:
        return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255

    results = {}
    with no_downloads():
        packages = {net: lpips.LPIPS(net=net, verbose=False) for net in ("alex", "vgg", "squeeze")}
    for net, network in (("alex", "alexnet"), ("vgg", "vgg16"), ("squeeze", "squeezenet1_1")):
        package, state = packages[net], torch.load(folder / f"{network}.pth")
        names = package.net.state_dict()
        package.net.load_state_dict({name: state["features." + name.partition(".")[2]] for name in names})

        @torch.inference_mode()
        def value(one: Any, other: Any, package: Any = package) -> float:
            return float(package(one, other, normalize=True))

        pairs = {key: (tensor(one), tensor(other)) for key, (one, other) in read_pairs(folder).items()}
        results[f"lpips_{net}"] = measured(pairs, f"lpips_{net}", value)
    return results


def no_downloads() -> Any:
    """torchvision's constructors, asked for pretrained weights, give random ones: they are replaced afterwards."""
    from contextlib import ExitStack

    from torchvision import models

    stack = ExitStack()
    for name in ("alexnet", "vgg16", "squeezenet1_1"):
        real = getattr(models, name)
        stack.enter_context(mock.patch.object(models, name, lambda *_, real=real, **__: real(weights=None)))
    return stack


def child(python: Path, part: str, folder: Path, threads: int) -> dict[str, Any]:
    """Runs one part in a process of its own; returns what it wrote."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [str(python), __file__, "--part", part, "--folder", str(folder)]
    subprocess.run(command, env=environment, check=True, timeout=3000)
    return dict(json.loads((folder / f"{part}.json").read_text()))


def print_tables(ours: dict[str, Any], theirs: dict[str, Any], package: dict[str, Any]) -> None:
    """Differences, then times."""
    print(f"{'metric':<14} {'rival':<7} {'pictures':>8} {'mean':>8} {'largest difference':>19} {'allowed':>9}")
    for name, allowed in GOALS.items():
        for rival, scores in (("pyiqa", theirs), ("lpips", package)):
            if name in scores:
                difference = max(abs(ours[name][0][key] - value) for key, value in scores[name][0].items())
                verdict = "ok" if difference <= allowed else "MISS"
                count, mean = len(scores[name][0]), statistics.fmean(scores[name][0].values())
                print(f"{name:<14} {rival:<7} {count:>8} {mean:>8.4f} {difference:>19.2e} {allowed:>9.0e} {verdict}")
    print(f"\n{'ms of a picture':<30} {'ours':>9} {'pyiqa':>9} {'ratio':>7}")
    for name in GOALS:
        print_times(name, ours[name][1], theirs[name][1])
    print_times(AFRESH, ours[AFRESH][1], theirs["lpips_alex"][1])
    for label, names in SUMS.items():
        print_times(label, sum(ours[name][1] for name in names), sum(theirs[name][1] for name in names))


def print_times(label: str, ours: float, theirs: float) -> None:
    """One line of the table."""
    print(f"{label:<30} {1000 * ours:>9.2f} {1000 * theirs:>9.2f} {theirs / ours:>7.2f}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="Compare the metrics with pyiqa's and the lpips package's.")
    parser.add_argument("--pyiqa-python", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=("ours", "pyiqa", "lpips"))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.part:
        parts = {"ours": run_ours, "pyiqa": run_pyiqa, "lpips": run_lpips}
        (given.folder / f"{given.part}.json").write_text(json.dumps(parts[given.part](given.folder)))
        return
    if given.pyiqa_python is None:
        parser.error("--pyiqa-python names the Python that has pyiqa")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pictures(folder)
        print(
            f"{len(read_pairs(folder))} pictures of {len(NAMES)} photographs, {given.threads} thread(s) each",
            flush=True,
        )
        ours = child(Path(sys.executable), "ours", folder, given.threads)
        package = child(Path(sys.executable), "lpips", folder, given.threads)
        print_tables(ours, child(given.pyiqa_python, "pyiqa", folder, given.threads), package)


if __name__ == "__main__":
    main()
