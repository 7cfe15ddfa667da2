"""A base that is trained here, interrupted or not, is the same base, and opens like any Stable Diffusion folder."""

import numpy as np
import pytest
import torch

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.bases.files import POCKET_FOLDER
from lora_core.bases.stable_diffusion import open_base
from lora_core.experiment import BaseModelSection
from lora_core.images import list_photos, read_rgb
from lora_core.metrics import psnr_rgb
from lora_core.pretraining.assemble import save_pipeline
from lora_core.pretraining.autoencoder import AutoencoderRecipe, build_autoencoder, train_autoencoder, widen_latents
from lora_core.pretraining.photos import PhotoPool
from lora_core.pretraining.text import build_text_encoder, build_tokenizer, caption_of
from lora_core.pretraining.unet import LatentPool, TextConditionedUNet, UNetRecipe, build_unet, train_unet

AUTOENCODER = AutoencoderRecipe(
    latent_channels=4, width=16, encoder_blocks=(0, 1, 1), decoder_blocks=(1, 1, 0), images=32, batch=4, crop=32
)
UNET = UNetRecipe(channels=(16, 32), heads=2, text_width=32, text_layers=1, images=24, batch=4, crop=8)


class Stop(Exception):
    """In place of a kill."""


def stop_after(calls: int):
    """An `evaluate` that ends the run at a save; the save itself is then not made, as with a kill."""
    seen = []

    def evaluate(_) -> float:
        seen.append(1)
        if len(seen) > calls:
            raise Stop
        return 0.0

    return evaluate


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def pool(photos) -> PhotoPool:
    return PhotoPool.read([photos], at_least=64)


def test_an_interrupted_autoencoder_is_the_undisturbed_one(pool, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed = train_autoencoder(AUTOENCODER, pool, tmp_path / "a")
    with pytest.raises(Stop):
        train_autoencoder(AUTOENCODER, pool, tmp_path / "b", save_every_seconds=0, evaluate=stop_after(3))
    resumed = train_autoencoder(AUTOENCODER, pool, tmp_path / "b")
    assert equal(undisturbed, resumed)


def test_widening_the_latents_keeps_what_was_learnt(pool):
    torch.manual_seed(0)
    narrow = build_autoencoder(AUTOENCODER)
    wide = widen_latents(narrow, AUTOENCODER.model_copy(update={"latent_channels": 8, "seed": 1}))
    pixels = torch.from_numpy(pool.crops(0, 2, 32, 0))
    with torch.no_grad():
        latents = wide.encode(pixels).latents
        torch.testing.assert_close(latents[:, :4], narrow.encode(pixels).latents)
        assert latents.shape[1] == 8 and latents[:, 4:].abs().mean() < 0.3 * latents[:, :4].abs().mean()


def make_unet(pool: PhotoPool, folder, *, interrupted: bool) -> tuple[TextConditionedUNet, LatentPool, torch.nn.Module]:
    autoencoder = build_autoencoder(AUTOENCODER).requires_grad_(False)
    latents = LatentPool.encode(pool, autoencoder, factor=4)
    tokenizer = build_tokenizer(list(latents.captions), length=16)
    text = build_text_encoder(tokenizer, width=UNET.text_width, layers=UNET.text_layers, seed=0)
    model = TextConditionedUNet(build_unet(UNET, AUTOENCODER.latent_channels), text, tokenizer)
    if interrupted:
        with pytest.raises(Stop):
            train_unet(UNET, model, latents, folder, save_every_seconds=0, evaluate=stop_after(2))
        text = build_text_encoder(tokenizer, width=UNET.text_width, layers=UNET.text_layers, seed=0)
        model = TextConditionedUNet(build_unet(UNET, AUTOENCODER.latent_channels), text, tokenizer)
    train_unet(UNET, model, latents, folder)
    return model, latents, autoencoder


def test_an_interrupted_unet_is_the_undisturbed_one_and_opens_as_a_base(pool, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    undisturbed, latents, autoencoder = make_unet(pool, tmp_path / "a", interrupted=False)
    resumed, _, _ = make_unet(pool, tmp_path / "b", interrupted=True)
    assert equal(undisturbed.unet, resumed.unet) and equal(undisturbed.text_encoder, resumed.text_encoder)
    save_pipeline(autoencoder, undisturbed, latents.scaling_factor, "# Card\n", tmp_path / "base")
    base = open_base(BaseModelSection(model=str(tmp_path / "base")), torch.device("cpu"))
    assert (base.factor, base.multiple) == (4, 8)
    pixels = to_pixels(pool.pixels[0][:64, :64])[None]
    assert base.encode(pixels).std() == pytest.approx(1, abs=0.5)
    with torch.no_grad():
        answer = base.predict(base.encode(pixels), torch.tensor([99]), base.encode_prompt(["a photo"]))
    assert answer.shape == (1, 4, 16, 16) and answer.isfinite().all()


def test_the_tokenizer_knows_the_captions_words_and_spells_others(tmp_path):
    captions = ["a photo of Afghan hound", "a photo of CD player", "a photo"]
    tokenizer = build_tokenizer(captions)
    assert tokenizer.get_vocab() == build_tokenizer(captions).get_vocab()
    tokens = tokenizer.tokenize("A photo of hound zebra")
    assert tokens[:4] == ["a</w>", "photo</w>", "of</w>", "hound</w>"]
    assert "".join(tokens[4:]) == "zebra</w>" and len(tokens) > 5
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    options = {"padding": "max_length", "truncation": True, "max_length": again.model_max_length}
    assert again("photo of hound", **options).input_ids == tokenizer("photo of hound", **options).input_ids
    assert len(again("photo of hound", **options).input_ids) == 24


def test_captions_come_from_class_names():
    assert [caption_of(name) for name in ("Afghan_hound", "100075")] == ["a photo of Afghan hound", "a photo"]


def test_the_shipped_pocket_base_is_small_and_keeps_a_photograph(photos):
    assert sum(file.stat().st_size for file in POCKET_FOLDER.rglob("*") if file.is_file()) <= 16 * 2**20
    base = open_base(BaseModelSection(), torch.device("cpu"))
    scores = [
        psnr_rgb(round_trip(base, rgb), rgb) for rgb in (read_rgb(path)[:128, :144] for path in list_photos(photos))
    ]
    assert np.mean(scores) > 28


def round_trip(base, rgb: np.ndarray) -> np.ndarray:
    return to_rgb(base.decode(base.encode(to_pixels(rgb)[None])))[0]
