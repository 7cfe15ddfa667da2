"""The base that is shipped: small, faithful, and what its card says it is."""

import numpy as np
import torch

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.bases.files import POCKET_FOLDER
from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import BaseModelSection
from lora_core.images import list_photos, read_rgb
from lora_core.metrics import psnr_rgb
from lora_core.pretraining.recipe import load_recipe_preset
from lora_core.settings import to_yaml


def test_the_shipped_pocket_base_is_small_and_keeps_a_photograph(photos):
    assert sum(file.stat().st_size for file in POCKET_FOLDER.rglob("*") if file.is_file()) <= 16 * 2**20
    base = open_base(BaseModelSection(), torch.device("cpu"))
    originals = [read_rgb(path)[:128, :144] for path in list_photos(photos)]
    decoded = [to_rgb(base.decode(base.encode(to_pixels(rgb)[None])))[0] for rgb in originals]
    assert np.mean([psnr_rgb(*pair) for pair in zip(decoded, originals, strict=True)]) > 32


def test_its_latents_have_unit_size_and_its_words_are_known(photos):
    base = open_base(BaseModelSection(), torch.device("cpu"))
    pixels = torch.stack([to_pixels(read_rgb(path)[:128, :128]) for path in list_photos(photos)])
    assert 0.7 < base.encode(pixels).square().mean().sqrt() < 1.5
    ids = base.tokenizer("a photo of Afghan hound").input_ids
    assert base.tokenizer.decode(ids, skip_special_tokens=True).split() == ["a", "photo", "of", "afghan", "hound"]
    assert len(ids) < base.tokenizer.model_max_length


def test_its_card_holds_the_shipped_recipe():
    recipe = to_yaml(load_recipe_preset("pocket-restoration"))
    card = (POCKET_FOLDER / "README.md").read_text("utf-8")
    for line in recipe.splitlines():
        if not line.strip().startswith(("path:", "resume:", "terms:", "by the class")):
            assert line in card
