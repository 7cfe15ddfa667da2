"""LPIPS on its three backbones against the lpips package, DISTS against its definition, both with random weights."""

from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from skimage import data
from torch.nn import functional

from lora_core.errors import ConfigError, DataError
from lora_core.experiment import ScoringSection
from lora_core.metrics.registry import METRICS, Opened
from lora_core.perceptual import memory

PHOTO = np.ascontiguousarray(data.astronaut()[60:124, 180:250])
NOISY = (PHOTO + np.random.default_rng(0).normal(0, 12, PHOTO.shape)).clip(0, 255).astype(np.uint8)
SOFT = (0.6 * PHOTO + 0.4 * PHOTO.mean()).astype(np.uint8)
MAKERS = {name: getattr(torchvision.models, name) for name in ("alexnet", "squeezenet1_1")}  # before they are patched
BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
KEYS = {"alex": "lpips_weights", "vgg": "vgg_weights", "squeeze": "squeezenet_weights"}


def features(network: str) -> torch.nn.Module:
    """Random features of a torchvision network, the same at every call; its classifier plays no part."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        if network == "vgg16":  # without its classifier, which takes seconds to draw
            holder = torch.nn.Module()
            holder.features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
            return holder
        return MAKERS[network](weights=None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for net, network in BACKBONES.items():
        paths[net] = folder / f"{network}.pth"
        state = features(network).state_dict()
        torch.save({key: value for key, value in state.items() if key.startswith("features")}, paths[net])
    draw = torch.Generator().manual_seed(2)
    heads = {name: torch.rand(1, 1475, 1, 1, generator=draw) for name in ("alpha", "beta")}
    paths["dists"] = folder / "dists.pt"
    torch.save(heads, paths["dists"])
    return paths


def open_lpips(net: str, files: dict[str, Path]) -> Opened:
    return METRICS[f"lpips_{net}"].open(ScoringSection(**{KEYS[net]: str(files[net])}))


def tensors(*pictures: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]).float() / 255


@pytest.mark.parametrize("net", BACKBONES)
def test_lpips_equals_the_package(net: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The package builds its slices from the same backbone by its own code."""
    for network in BACKBONES.values():
        monkeypatch.setattr(torchvision.models, network, lambda pretrained, network=network: features(network))
    package = lpips.LPIPS(net=net, verbose=False)
    monkeypatch.undo()
    pictures = tensors(NOISY, SOFT), tensors(PHOTO, PHOTO)
    with torch.no_grad():
        expected = package(*pictures, normalize=True).flatten().numpy()
    assert (expected > 1e-4).all()
    opened = open_lpips(net, files)
    np.testing.assert_allclose(opened.measure(np.stack([NOISY, SOFT]), np.stack([PHOTO] * 2)), expected, atol=1e-6)
    assert opened.measure(PHOTO[None], PHOTO[None])[0] == 0
    assert "own torchvision's" in opened.convention and "not comparable" in opened.convention


@pytest.mark.parametrize("room", [0, 2 * 10**6, 10**9])
def test_remembered_originals_change_nothing(
    room: int, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for none, for some and for all of the originals; the last two have equal bytes in other shapes."""
    square, noisy_square = (np.ascontiguousarray(picture[:, :64]) for picture in (PHOTO, NOISY))
    originals = [PHOTO, SOFT, square, square.reshape(32, 128, 3)]
    pictures = [NOISY, NOISY, noisy_square, noisy_square.reshape(32, 128, 3)]
    expected = [
        open_lpips("alex", files).measure(one[None], other[None])[0]
        for one, other in zip(pictures, originals, strict=True)
    ]
    monkeypatch.setattr(memory, "ROOM", room)
    opened = open_lpips("alex", files)
    for _ in range(2):
        again = [opened.measure(one[None], other[None])[0] for one, other in zip(pictures, originals, strict=True)]
        assert again == expected


def dists_by_definition(first: np.ndarray, second: np.ndarray, vgg: torch.nn.Module, heads: Path) -> float:
    """The authors' equations, layer by layer of torchvision's own network."""
    hanning = torch.from_numpy(np.hanning(5)[1:-1]).float()
    window = torch.outer(hanning, hanning) / torch.outer(hanning, hanning).sum()
    maps: list[list[torch.Tensor]] = []
    for picture in (first, second):
        pixels = tensors(picture)
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x, found = (pixels - mean) / deviation, [pixels]
        for number, layer in enumerate(vgg[:30]):
            if isinstance(layer, torch.nn.MaxPool2d):
                kernel = window.repeat(x.shape[1], 1, 1, 1)
                x = (functional.conv2d(x * x, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
            else:
                x = layer(x)
            if number in (3, 8, 15, 22, 29):
                found.append(x.clone())
        maps.append(found)
    alpha, beta = (torch.load(heads)[name].flatten() for name in ("alpha", "beta"))
    total, place, similarity = alpha.sum() + beta.sum(), 0, 0.0
    for one, other in zip(*maps, strict=True):
        for channel in range(one.shape[1]):
            x, y = one[0, channel].double(), other[0, channel].double()
            luminance = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            texture = (2 * covariance + 1e-6) / (x.var(correction=0) + y.var(correction=0) + 1e-6)
            similarity += float(alpha[place] * luminance + beta[place] * texture)
            place += 1
    return 1 - similarity / float(total)


def test_dists_equals_its_definition(files: dict[str, Path]) -> None:
    section = ScoringSection(vgg_weights=str(files["vgg"]), dists_weights=str(files["dists"]))
    opened = METRICS["dists"].open(section)
    vgg = features("vgg16").features.eval()
    with torch.no_grad():
        expected = [dists_by_definition(picture, PHOTO, vgg, files["dists"]) for picture in (NOISY, SOFT)]
    assert min(expected) > 1e-3
    np.testing.assert_allclose(opened.measure(np.stack([NOISY, SOFT]), np.stack([PHOTO] * 2)), expected, atol=2e-6)
    assert opened.measure(PHOTO[None], PHOTO[None])[0] == pytest.approx(0, abs=1e-6)
    again = opened.measure(np.stack([NOISY, SOFT]), np.stack([PHOTO] * 2))  # the originals are remembered
    np.testing.assert_allclose(again, expected, atol=2e-6)
    assert "own torchvision's VGG-16 weights" in opened.convention and "own the DISTS authors'" in opened.convention


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("lpips_vgg", {"vgg_weights": "alex"}, r"scoring\.vgg_weights: .*alexnet\.pth is not torchvision's VGG-16"),
        ("lpips_squeeze", {"squeezenet_weights": "vgg"}, r"scoring\.squeezenet_weights: .*vgg16\.pth is not torch"),
        ("dists", {"vgg_weights": "vgg", "dists_weights": "alex"}, r"scoring\.dists_weights: .*it has no 'alpha'"),
        ("dists", {"vgg_weights": "squeeze", "dists_weights": "dists"}, r"scoring\.vgg_weights: .*is not torchvision"),
    ],
)
def test_weights_of_another_network(name: str, keys: dict[str, str], says: str, files: dict[str, Path]) -> None:
    section = ScoringSection(**{key: str(files[file]) for key, file in keys.items()})
    with pytest.raises(ConfigError, match=says) as error:
        METRICS[name].open(section)
    assert "\n" not in str(error.value)


def test_pictures_too_small_for_a_network(files: dict[str, Path]) -> None:
    for net in BACKBONES:
        side, opened = METRICS[f"lpips_{net}"].side, open_lpips(net, files)
        smallest = PHOTO[None, :side, :side], NOISY[None, :side, :side]
        assert opened.measure(*smallest)[0] > 0
        with pytest.raises(DataError, match=f"at least {side}x{side}"):
            opened.measure(*(picture[:, 1:] for picture in smallest))
