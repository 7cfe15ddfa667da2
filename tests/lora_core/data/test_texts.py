"""Each caption is encoded once, is found by its text, and is never read where the file is damaged."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lora_core.bases import base_digest
from lora_core.bases.stable_diffusion import open_base
from lora_core.data.texts import open_texts
from lora_core.errors import DataError
from lora_core.experiment import apply_overrides, load_preset
from lora_core.workspace import Workspace

CAPTIONS = ["a photo", "sharp photograph", "ünï 照片", "an old image, " * 3]


@pytest.fixture(scope="module")
def base(miniature):
    return open_base(load_preset("pocket").base.model_copy(update={"model": str(miniature)}), torch.device("cpu"))


@pytest.fixture
def opened(tmp_path, miniature, base, monkeypatch):
    """Opens the texts of a workspace; `opened.encoded` has what was encoded for it."""
    encode, encoded = base.encode_prompt, []

    def texts(captions, *settings):
        experiment = apply_overrides(load_preset("pocket"), [f"base.model={miniature}", *settings])
        return open_texts(Workspace(tmp_path), experiment, captions, base, base_digest(experiment.base))

    monkeypatch.setattr(base, "encode_prompt", lambda some: encoded.extend(some) or encode(some))
    texts.encoded, texts.folder = encoded, tmp_path / "cache"
    return texts


@pytest.mark.parametrize(("settings", "tolerance"), [([], 1e-6), (["base.precision=bf16"], 2e-3)])
def test_rows_are_the_embeddings_and_are_made_once(opened, base, settings, tolerance):
    cache = opened(CAPTIONS * 50, *settings)
    assert sorted(opened.encoded) == sorted(CAPTIONS)
    asked = [CAPTIONS[3], CAPTIONS[0], CAPTIONS[3]]
    rows = cache.rows(asked)
    expected = base.encode_prompt(asked)
    assert rows.dtype == torch.float32 and rows.shape == expected.shape
    torch.testing.assert_close(rows, expected.float(), atol=tolerance, rtol=tolerance)
    opened.encoded.clear()
    again = opened(reversed(CAPTIONS), *settings)
    assert torch.equal(again.rows(asked), rows) and not opened.encoded
    with pytest.raises(KeyError):
        again.rows(["never given"])
    opened([*CAPTIONS, "another"], *settings)
    assert len(list(opened.folder.glob("texts-*"))) == 2


def test_the_empty_caption_is_there_where_captions_are_dropped(opened):
    assert opened(["a photo"], "data.caption_dropout=0.1").rows([""]).shape[0] == 1
    with pytest.raises(KeyError):
        opened(["a photo"]).rows([""])


def test_damage_is_found_where_it_is_read_and_named(opened):
    opened(CAPTIONS)
    (file,) = opened.folder.glob("texts-*/records.bin")
    data = bytearray(file.read_bytes())
    data[len(data) // 4 + 5] ^= 64  # of the second caption in order
    file.write_bytes(data)
    cache, damaged = opened(CAPTIONS), sorted(CAPTIONS)[1]
    cache.rows([caption for caption in CAPTIONS if caption != damaged])
    with pytest.raises(DataError, match=rf"records.bin is damaged at the caption '{damaged}.*delete the cache folder"):
        cache.rows(CAPTIONS)


def test_of_several_at_once_one_encodes(opened):
    with ThreadPoolExecutor(3) as pool:
        caches = list(pool.map(lambda _: opened(CAPTIONS), range(3)))
    assert sorted(opened.encoded) == sorted(CAPTIONS)
    assert all(torch.equal(cache.rows(CAPTIONS), caches[0].rows(CAPTIONS)) for cache in caches)


def test_captions_that_are_cut_off_are_said(opened, base, caplog):
    long = "old photo " * base.tokenizer.model_max_length
    with caplog.at_level(logging.WARNING):
        opened(["a photo", long.strip()])
    assert "1 of 2 captions have more than the" in caplog.text and "old photo" in caplog.text


def test_an_embedding_that_is_not_finite_names_its_caption(opened, base, monkeypatch):
    monkeypatch.setattr(base, "encode_prompt", lambda some: torch.full((len(some), 77, 32), torch.nan))
    with pytest.raises(DataError, match="embedding of the caption 'a photo' is not finite"):
        opened(["a photo"])
    assert not list(opened.folder.glob("texts-*"))
