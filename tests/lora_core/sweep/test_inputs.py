"""What the autoencoder drops from an input is found once, and only by those who return it."""

import torch

from lora_core.bases.base import Base, to_pixels
from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import BaseModelSection
from lora_core.images import read_rgb
from lora_core.restoration import return_detail
from lora_core.sweep.inputs import encode_inputs


def test_dropped_detail_makes_doing_nothing_exact_and_is_decoded_once(miniature, photos, monkeypatch):
    base = open_base(BaseModelSection(model=str(miniature)), torch.device("cpu"))
    decoded = []
    decode = Base.decode
    monkeypatch.setattr(Base, "decode", lambda self, latents: decoded.append(1) or decode(self, latents))
    pictures = {path.stem: read_rgb(path)[:64, :128] for path in sorted(photos.iterdir())[:3]}
    inputs = encode_inputs(base, pictures, 2)
    assert [one.name for one in inputs] == list(pictures) and not decoded
    for one in inputs:
        untouched = decode(base, one.latents[None])
        assert (untouched[0] - one.pixels).abs().max() > 1e-2
        whole = return_detail(untouched, one.dropped[None], 1.0)
        torch.testing.assert_close(whole, to_pixels(pictures[one.name][None]), atol=1e-5, rtol=0)
        assert one.dropped is one.dropped
    assert len(decoded) == len(inputs)
