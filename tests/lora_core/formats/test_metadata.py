"""Metadata as kohya's tools expect it, and hashes as kohya's own functions computed them."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from lora_core.formats.metadata import ModelSpec, TrainingFacts, legacy_file_hash, tensor_hashes, training_metadata
from lora_core.formats.reading import read_lora
from lora_core.formats.writing import write_lora
from tests.lora_core.formats.made_up import SMALL, made_up

FACTS = TrainingFacts(
    spec=ModelSpec(title="Old photographs", usage_hint="img2img, denoising strength 0.3"),
    output_name="photos",
    network_dim=32,
    network_alpha=16.0,
    network_args={"conv_dim": 32},
    resolution=(512, 512),
    learning_rate=1e-4,
    steps=800,
    dataset_dirs={"10_targets": {"n_repeats": 10, "img_count": 40}},
    further={"ss_note": "mine", "ss_loss_type": "huber"},
)
LARGE = {f"m{index}.w": torch.arange(100_000, dtype=torch.float32).reshape(100, 1000) + index for index in range(4)}
SMALL_FILE = {
    "lora_unet_b.x": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "a.alpha": torch.tensor(2.0),
    "c": torch.arange(16, dtype=torch.float16).reshape(4, 4),
}


@pytest.mark.parametrize(("tensors", "metadata", "model", "legacy"), [
    # What precalculate_safetensors_hashes of kohya's sd-scripts (48d368fa) answers.
    (SMALL_FILE, {"ss_a": "1", "ss_b": "2"},
     "2230185700160692ea11cec6fe9e498f330cd937e7052c3e5781bea864c4a2b8", "e3b0c442"),
    (LARGE, {"ss_a": "1", "ss_name": 'Fotos "ä" \\ 照片\n'},
     "106edd4acb1c876697b6ff1c422ed32cf8d21e60628b6559cfcc3d635698ae32", "08e90caa"),
])  # fmt: skip
def test_hashes_are_kohyas(tensors, metadata, model, legacy):
    found = tensor_hashes(tensors, metadata)
    assert found == {"sshs_model_hash": model, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{model}"}
    assert tensor_hashes(tensors, {**metadata, "modelspec.title": "edited afterwards"}) == found
    content = save(tensors, metadata)
    assert hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest() == model


def test_the_hash_in_a_file_is_that_of_the_file(tmp_path):
    path = tmp_path / "lora.safetensors"
    write_lora(made_up(SMALL), path, "kohya", training_metadata(FACTS), dtype="bf16")
    content, metadata = path.read_bytes(), read_lora(path).metadata
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    assert metadata["sshs_model_hash"] == hashlib.sha256(tensors).hexdigest()


def test_metadata_is_what_web_uis_read():
    metadata = training_metadata(FACTS)
    assert metadata == training_metadata(FACTS) and all(isinstance(value, str) for value in metadata.values())
    expected = {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "32",
        "ss_network_alpha": "16.0",
        "ss_network_args": '{"conv_dim": 32}',
        "ss_resolution": "(512, 512)",
        "ss_learning_rate": "0.0001",
        "ss_unet_lr": "None",
        "ss_steps": "800",
        "ss_loss_type": "huber",
        "ss_note": "mine",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "Old photographs",
        "modelspec.resolution": "512x512",
        "modelspec.prediction_type": "epsilon",
        "modelspec.usage_hint": "img2img, denoising strength 0.3",
    }
    assert expected.items() <= metadata.items()
    assert json.loads(metadata["ss_dataset_dirs"]) == FACTS.dataset_dirs
    absent = (
        "ss_training_started_at",
        "ss_sd_model_hash",
        "ss_tag_frequency",
        "modelspec.date",
        "ss_spec",
        "ss_further",
    )
    assert not metadata.keys() & set(absent)


@pytest.mark.parametrize(("v2", "velocity", "version", "architecture"), [
    (True, False, "sd_v2", "stable-diffusion-v2-512/lora"),
    (True, True, "sd_v2_v", "stable-diffusion-v2-768-v/lora"),
])  # fmt: skip
def test_sd_2_is_told_apart(v2, velocity, version, architecture):
    spec = ModelSpec(title="x", date="2026-01-01")
    network = {"network_dim": 4, "network_alpha": 4, "resolution": (768, 768)}
    facts = TrainingFacts(spec=spec, output_name="x", **network, v2=v2, v_parameterization=velocity)
    metadata = training_metadata(facts)
    assert (metadata["ss_v2"], metadata["ss_base_model_version"]) == ("True", version)
    assert (metadata["modelspec.architecture"], metadata["modelspec.date"]) == (architecture, "2026-01-01")


def test_the_legacy_hash_of_a_base_is_of_64_kib_behind_the_first_mebibyte(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "base.safetensors").write_bytes(content)
    expected = hashlib.sha256(content[2**20 : 2**20 + 2**16]).hexdigest()[:8]
    assert legacy_file_hash(tmp_path / "base.safetensors") == expected
