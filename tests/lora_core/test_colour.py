"""Colour fixes give back the input's colours and leave the restored details."""

import torch

from lora_core.colour import adain, wavelet

SOURCE = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
DETAIL = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 0.1


def test_adain_undoes_a_change_of_gain_and_offset():
    shifted = 0.5 * SOURCE + torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(adain(shifted, SOURCE), SOURCE, atol=1e-5, rtol=0)
    flat = torch.zeros(1, 3, 8, 8)
    assert torch.isfinite(adain(flat, SOURCE[:1, :, :8, :8])).all()


def test_wavelet_undoes_a_shift_of_colour_and_keeps_the_details():
    shift = torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(wavelet(SOURCE + shift, SOURCE), SOURCE, atol=1e-5, rtol=0)
    checks = torch.ones(1, 1, 96, 96)
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = -1  # the finest detail there is
    kept, inner = wavelet(SOURCE + shift + 0.1 * checks, SOURCE) - SOURCE, slice(40, 56)
    wanted = 0.1 * checks[..., inner, inner].expand(2, 3, 16, 16)
    torch.testing.assert_close(kept[..., inner, inner], wanted, atol=1e-4, rtol=0)
