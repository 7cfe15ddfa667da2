"""The fused passes and the flat parameters are PEFT's and torch's own, in fewer steps: same answers, same gradients."""

import pytest
import torch

from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import AdapterSection, BaseModelSection
from lora_core.lora import attach
from lora_core.training.flat import flatten
from lora_core.training.fused import fuse, lora_linear


def tensors(rows: int, dtype: torch.dtype):
    draw = torch.Generator().manual_seed(0)
    shapes = {"x": (2, rows, 24), "weight": (40, 24), "bias": (40,), "down": (3, 24), "up": (40, 3)}
    made = {name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for name, shape in shapes.items()}
    return {name: value.requires_grad_(name in ("x", "down", "up")) for name, value in made.items()}


@pytest.mark.parametrize("rows", [1, 50], ids=["added", "merged"])
def test_answers_and_gradients_are_those_of_the_plain_formula(rows):
    given = tensors(rows, torch.float32)
    made = lora_linear(*given.values(), 0.7)
    plain = given["x"] @ (given["weight"] + 0.7 * given["up"] @ given["down"]).T + given["bias"]
    torch.testing.assert_close(made, plain)
    wanted = [given[name] for name in ("x", "down", "up")]
    weights = torch.linspace(-1, 1, made.numel()).view_as(made)
    ours, theirs = (torch.autograd.grad((one * weights).sum(), wanted) for one in (made, plain))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_in_half_precision_an_update_is_not_lost_beside_the_weight():
    given = tensors(50, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        with_update, without = (
            lora_linear(given["x"], given["weight"], given["bias"], given["down"], given["up"] * size, 1.0).float()
            for size in (1e-4, 0.0)
        )
    # Merged into bfloat16 weights of size 1, an update of 1e-4 would be rounded away everywhere.
    assert with_update.dtype == torch.float32 and (with_update != without).float().mean() > 0.01
    gradient = torch.autograd.grad(with_update.sum(), given["down"])[0]
    assert gradient.dtype == torch.float32 and gradient.any()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
@pytest.mark.parametrize("values", [{"layers": "all"}, {"layers": "attention", "rslora": True, "text_encoder": True}])
def test_a_fused_model_answers_and_learns_as_pefts(miniature, precision, tolerance, values):
    answers, gradients = [], []
    for fused in (False, True):
        base = open_base(BaseModelSection(model=str(miniature), precision=precision), torch.device("cpu"))
        adapter = attach(base, AdapterSection(rank=4, alpha=2.0, **values), seed=0)
        draw = torch.Generator().manual_seed(1)
        for parameter in adapter.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
        if fused:
            assert fuse(adapter) > 100
        latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(2))
        text = base.encode_prompt(["a photo", "sharp"])
        answer = base.predict(latents, torch.tensor([99, 500]), text)
        answer.square().mean().backward()
        answers.append(answer.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in adapter.parameters()]))
        with torch.no_grad(), adapter.disabled():
            answers.append(base.predict(latents, torch.tensor([99, 500]), base.encode_prompt(["a photo", "sharp"])))
    scale = answers[0].abs().max()
    assert (answers[0] - answers[2]).abs().max() <= tolerance * scale and torch.equal(answers[1], answers[3])
    assert (gradients[0] - gradients[1]).norm() <= tolerance * gradients[0].norm()


@pytest.mark.parametrize("values", [{"dora": True, "formats": "diffusers"}, {"dropout": 0.1}, {"rank_dropout": 0.1}])
def test_what_is_more_than_a_plain_lora_keeps_pefts_pass(miniature, values):
    base = open_base(BaseModelSection(model=str(miniature)), torch.device("cpu"))
    assert fuse(attach(base, AdapterSection(rank=4, alpha=2.0, **values), seed=0)) == 0
    quantised = open_base(BaseModelSection(model=str(miniature), quantise="nf4"), torch.device("cpu"))
    assert fuse(attach(quantised, AdapterSection(rank=4, layers="attention"), seed=0)) == 0


def test_flat_parameters_are_updated_as_separate_ones_are():
    ours, theirs = ([torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.zeros(4))] for _ in range(2))
    flat = torch.optim.AdamW([flatten(ours)], lr=0.1, weight_decay=0.1, fused=True)
    plain = torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.1)
    for step in range(4):
        for parameters, optimiser in ((ours, flat), (theirs, plain)):
            (parameters[0].sum() * parameters[1].square().sum() + step * parameters[1].sum()).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=False)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
        assert one.grad is not None and not one.grad.any()
