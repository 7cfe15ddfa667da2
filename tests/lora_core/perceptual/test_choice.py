"""Which perceptual metric is taken and why, and LPIPS against the lpips package itself."""

import subprocess
import sys
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from skimage import data

from lora_core.errors import ConfigError, DataError, ResourceError
from lora_core.experiment import ScoringSection
from lora_core.metrics import gmsd
from lora_core.perceptual import (
    DOWNLOAD_COMMAND,
    FILES,
    Perceptual,
    choose_perceptual,
    download_lpips_weights,
    hub_weights,
    perceptual_meaning,
)

ROOT = Path(__file__).parents[3]
PHOTO = np.ascontiguousarray(data.astronaut()[60:160, 180:290])
CONVOLUTIONS = (0, 3, 6, 8, 10)
NOISY = (PHOTO + np.random.default_rng(0).normal(0, 12, PHOTO.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    return tmp_path / "torch home" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"


@pytest.fixture(scope="module")
def alexnet() -> torch.nn.Module:
    """Random weights: what is tested is that they arrive in the right places."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return torchvision.models.alexnet(weights=None)


@pytest.fixture(scope="module")
def weights(alexnet: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save({key: value for key, value in alexnet.state_dict().items() if key.startswith("features")}, path)
    return path


@pytest.fixture(scope="module")
def measure(weights: Path) -> Perceptual:
    return choose_perceptual(ScoringSection(perceptual="lpips", lpips_weights=str(weights)))


def test_equals_the_lpips_package(
    alexnet: torch.nn.Module, measure: Perceptual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package builds its slices from the same backbone by its own code."""
    monkeypatch.setattr(torchvision.models, "alexnet", lambda pretrained: alexnet)
    package = lpips.LPIPS(net="alex", verbose=False)
    monkeypatch.undo()
    first, second = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1 for picture in (PHOTO, NOISY))
    with torch.no_grad():
        expected = float(package(first, second))
    assert expected > 1e-3
    assert measure(PHOTO, NOISY) == pytest.approx(expected, abs=1e-6)
    assert measure(PHOTO, PHOTO) == 0


def test_other_weights_never_bear_the_name_of_the_published_ones(measure: Perceptual) -> None:
    assert measure.name.startswith("LPIPS (AlexNet v0.1, own weights ")
    assert "cannot be compared" in measure.reason


def test_what_the_numbers_mean_is_known_without_the_network(measure: Perceptual, weights: Path, hub: Path) -> None:
    named = ScoringSection(perceptual="lpips", lpips_weights=str(weights))
    assert perceptual_meaning(named) == (measure.name, measure.convention)
    chosen = choose_perceptual(ScoringSection())
    assert (
        perceptual_meaning(ScoringSection()) == (chosen.name, chosen.convention) != (measure.name, measure.convention)
    )


def test_pictures_that_lpips_cannot_compare(measure: Perceptual) -> None:
    assert measure(PHOTO[:31, :31], NOISY[:31, :31]) > 0
    with pytest.raises(DataError, match="31x31"):
        measure(PHOTO[:30, :31], NOISY[:30, :31])
    with pytest.raises(DataError, match="110x100 and 110x99"):
        measure(PHOTO, NOISY[:-1])


def test_without_weights_auto_says_so_and_lpips_refuses(hub: Path) -> None:
    chosen = choose_perceptual(ScoringSection())
    assert chosen.name == "GMSD"
    assert DOWNLOAD_COMMAND in chosen.reason and "not in the torch hub cache" in chosen.reason
    assert chosen(PHOTO, NOISY) == gmsd(PHOTO, NOISY)
    with pytest.raises(ResourceError, match=DOWNLOAD_COMMAND):
        choose_perceptual(ScoringSection(perceptual="lpips"))


def test_a_damaged_download_is_not_used(hub: Path, weights: Path) -> None:
    hub.parent.mkdir(parents=True)
    hub.write_bytes(weights.read_bytes())
    assert "is damaged" in choose_perceptual(ScoringSection()).reason
    with pytest.raises(ResourceError, match="is damaged"):
        choose_perceptual(ScoringSection(perceptual="lpips"))


def test_the_cache_is_torch_hubs(hub: Path) -> None:
    assert hub_weights() == hub == Path(torch.hub.get_dir()) / "checkpoints" / hub.name
    assert torchvision.models.VGG16_Weights.IMAGENET1K_V1.url == FILES["vgg16"].address
    assert torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url == FILES["squeezenet"].address
    assert torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url == FILES["alexnet"].address


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "it has no 'features.0.bias'"),  # VGG begins so
        ({f"features.{n}.{part}": torch.zeros(2) for n in CONVOLUTIONS for part in ("weight", "bias")}, "mismatch"),
        ([1, 2], "is not torchvision's AlexNet"),
        (None, "is not torchvision's AlexNet"),
    ],
    ids=["another network", "other shapes", "no state", "no torch file"],
)
def test_wrong_weights_files(contents: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if contents is None:
        path.write_bytes(b"not a torch file")
    else:
        torch.save(contents, path)
    with pytest.raises(ConfigError, match=says) as error:
        choose_perceptual(ScoringSection(lpips_weights=str(path)))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_named_file_that_does_not_exist_is_no_reason_to_fall_back(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pth is no file"):
        choose_perceptual(ScoringSection(lpips_weights=str(tmp_path / "nowhere.pth")))


def test_download_that_fails_leaves_nothing_and_names_the_way_by_hand(hub: Path, weights: Path, tmp_path: Path) -> None:
    for address in (weights.as_uri(), (tmp_path / "nowhere.pth").as_uri()):  # wrong digest; not there
        with pytest.raises(ResourceError, match="save it as") as error:
            download_lpips_weights(address)
        assert str(hub) in str(error.value)
        assert list(hub.parent.iterdir()) == []


def test_gmsd_does_not_import_torch() -> None:
    program = (
        "import sys; from lora_core import classical, experiment, perceptual, scoring;"
        "perceptual.choose_perceptual(experiment.ScoringSection(perceptual='gmsd')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=ROOT)
