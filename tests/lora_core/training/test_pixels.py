"""Pixel terms: exact on equal pictures, with gradients, and refused by name where their weights are not at hand."""

import pytest
import torch
from torch.nn import functional
from torchvision.models import alexnet, vgg16

from lora_core.bases.stable_diffusion import open_base
from lora_core.errors import ConfigError, ResourceError
from lora_core.experiment import BaseModelSection, ObjectiveSection, ScoringSection
from lora_core.training.pixels import pixel_terms


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files as torchvision's, with random values: what they answer means nothing, how they are computed does."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, network in (("vgg", vgg16()), ("alex", alexnet())):
            features = {key: value for key, value in network.state_dict().items() if key.startswith("features.")}
            torch.save(features, folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def base(miniature):
    return open_base(BaseModelSection(model=str(miniature)), torch.device("cpu"))


def test_all_terms_are_zero_for_the_target_and_lead_towards_it(base, weights):
    objective = ObjectiveSection(pixel_l1=2, pixel_lpips=1, pixel_vgg=0.5, vgg_weights=str(weights / "vgg.pth"))
    terms = pixel_terms(base, objective, ScoringSection(lpips_weights=str(weights / "alex.pth")))
    clean = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert all(value.abs().max() == 0 for value in terms(clean, clean).values())
    x0 = (clean + 0.1).requires_grad_()
    parts = terms(x0, clean)
    assert {name: part.shape for name, part in parts.items()} == dict.fromkeys(
        ["pixel_l1", "pixel_lpips", "pixel_vgg"], torch.Size([2])
    )
    expected = 2 * functional.l1_loss(base.decode(x0), base.decode(clean), reduction="none").mean((1, 2, 3))
    torch.testing.assert_close(parts["pixel_l1"], expected)
    for name, part in parts.items():
        (gradient,) = torch.autograd.grad(part.sum(), x0, retain_graph=True)
        with torch.no_grad():
            after = terms(x0 - 1e-2 * gradient / gradient.norm(), clean)
        assert after[name].sum() < part.sum()


def test_missing_and_wrong_weights_are_named(base, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ResourceError, match=r"objective.pixel_lpips: .*AlexNet.*doctor --download-lpips"):
        pixel_terms(base, ObjectiveSection(pixel_lpips=1), ScoringSection())
    with pytest.raises(ResourceError, match=r"objective.pixel_vgg: .*vgg16-397923af.pth.*objective.vgg_weights"):
        pixel_terms(base, ObjectiveSection(pixel_vgg=1), ScoringSection())
    with pytest.raises(ConfigError, match=r"objective.vgg_weights: .*nowhere.pth is no file"):
        pixel_terms(base, ObjectiveSection(pixel_vgg=1, vgg_weights="nowhere.pth"), ScoringSection())
    with pytest.raises(ConfigError, match="is not torchvision's VGG-16"):
        pixel_terms(base, ObjectiveSection(pixel_vgg=1, vgg_weights=str(weights / "alex.pth")), ScoringSection())
    assert pixel_terms(base, ObjectiveSection(), ScoringSection()) is None
