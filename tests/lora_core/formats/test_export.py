"""`photo-enhancer export`: any format to any other, several to one, to a lower rank; nothing lost by mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from flows.console import Terminal
from flows.export_command import export
from lora_core.errors import ConfigError, DataError
from lora_core.files import file_digest
from lora_core.formats.algebra import merge, resize
from lora_core.formats.export import export_lora
from lora_core.formats.reading import read_lora
from lora_core.formats.writing import write_lora
from tests.lora_core.formats.made_up import MIXED, SMALL, made_up, same


@pytest.fixture(autouse=True)
def _process_as_it_is(monkeypatch: pytest.MonkeyPatch):
    """The terminal would set up environment and logging of the whole process, which here goes on."""
    monkeypatch.setattr(Terminal, "set_up", lambda self: None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "old photos.safetensors"
    facts = {"ss_v2": "False", "ss_network_dim": "4", "ss_network_args": "{}", "modelspec.title": "Mine", "note": "x"}
    write_lora(made_up(SMALL, ranks=(4,)), path, "kohya", facts)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    write_lora(made_up(SMALL, alphas=MIXED, seed=1), tmp_path / "other", "diffusers")
    return tmp_path / "other"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(one) for one in arguments], standalone_mode=True)


def test_round_the_formats_and_back_nothing_changes(source: Path, tmp_path: Path):
    stations = [("diffusers", tmp_path / "d"), ("peft", tmp_path / "p"), ("kohya", tmp_path / "k.safetensors")]
    here = source
    for form, target in stations:
        done = export_lora([here], target, form)
        assert (done.modules, done.rank, done.kept_energy) == (4, 4, 1.0)
        if form != "kohya":  # another file, other hashes
            assert not {"sshs_model_hash", "modelspec.hash_sha256"} & read_lora(target).metadata.keys()
        here = target
    assert done.sha256 == file_digest(here)
    before, after = load_file(source), load_file(here)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    ours, theirs = read_lora(here).metadata, read_lora(source).metadata
    assert ours["modelspec.title"] == "Mine" and ours["sshs_model_hash"] == theirs["sshs_model_hash"]
    assert ours["ss_base_model_version"] == "sd_v1" and "lora_adapter_metadata" not in ours


def test_the_command_merges_resizes_and_says_so(source: Path, other: Path, tmp_path: Path):
    target = tmp_path / "sum.safetensors"
    options = ("--to", target, "--format", "kohya", "--rank", 2, "--multiplier", 0.5, "--multiplier", -1)
    shown = run(source, other, *options)
    assert shown.exit_code == 0, shown.output
    expected = resize(merge([(read_lora(source), 0.5), (read_lora(other), -1.0)]), 2)
    written = read_lora(target)
    assert same(written, expected.weights, tolerance=1e-6)
    assert written.metadata["ss_network_dim"] == "2" and written.metadata["modelspec.merged_from"] == "Mine, other"
    line, step = shown.output.splitlines()
    assert line.startswith(f"{target}: kohya, 4 modules, rank 2, {expected.overall:.2%} of the update kept (least: ")
    assert file_digest(target)[:16] in line
    assert step.startswith("Next: copy it into models/Lora of A1111") and "<lora:sum:1>" in step


def test_the_next_step_fits_the_format_and_half_precision_is_smaller(source: Path, tmp_path: Path):
    shown = run(source, "--to", tmp_path / "d", "--format", "diffusers", "--dtype", "bf16")
    assert f"Next: pipeline.load_lora_weights('{tmp_path / 'd'}')" in shown.output
    shown = run(source, "--to", tmp_path / "p", "--format", "peft")
    assert f"PeftModel.from_pretrained(pipeline.unet, '{tmp_path / 'p'}')" in shown.output
    assert "pipeline.text_encoder" in shown.output
    assert json.loads((tmp_path / "p" / "adapter_config.json").read_text())["r"] == 4
    halves = load_file(tmp_path / "d" / "pytorch_lora_weights.safetensors")
    assert {value.dtype for value in halves.values()} == {torch.bfloat16}
    assert same(read_lora(tmp_path / "d"), read_lora(source), tolerance=1e-2)


def test_mixed_ranks_and_sd_2_are_said(tmp_path: Path):
    shapes = {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": torch.Size((6, 1024)), **SMALL}
    write_lora(made_up(shapes, ranks=(2, 3), alphas=MIXED), tmp_path / "d", "diffusers")
    export_lora([tmp_path / "d"], tmp_path / "k.safetensors", "kohya")
    metadata = read_lora(tmp_path / "k.safetensors").metadata
    assert metadata["ss_network_dim"] == "Dynamic" and metadata["ss_v2"] == "True"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v2-512/lora"


@pytest.mark.parametrize(("target", "form", "options", "reason"), [
    ("old photos.safetensors", "kohya", {"force": True}, "is, holds or lies in .* which is read; name another place"),
    ("other", "diffusers", {"force": True}, "is, holds or lies in"),
    ("other/inner", "diffusers", {"force": True}, "is, holds or lies in"),
    (".", "peft", {"force": True}, "is, holds or lies in"),
    ("taken.safetensors", "kohya", {}, "exists; name another place, or replace it with --force"),
    ("new.safetensors", "kohya", {"multipliers": [1.0]}, "1 multipliers for 2 LoRAs; give one for each"),
    ("new.safetensors", "kohya", {"multipliers": [1.0, 0.0]}, "multiplier 0.0 is not a number other than 0"),
    ("new.safetensors", "kohya", {"rank": 0}, "rank 0 is not at least 1"),
])  # fmt: skip
def test_a_target_or_a_number_that_cannot_be_meant(source, other, tmp_path, target, form, options, reason):
    (tmp_path / "taken.safetensors").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=reason):
        export_lora([source, other], tmp_path / target, form, **options)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_dora_is_named_where_it_cannot_go(source: Path, tmp_path: Path):
    write_lora(made_up(SMALL, dora=True), tmp_path / "dora", "peft")
    for sources, form in (([tmp_path / "dora"], "kohya"), ([source, tmp_path / "dora"], "diffusers")):
        with pytest.raises(ConfigError, match=r"/dora: a (kohya file cannot hold DoRA|DoRA cannot be merged)"):
            export_lora(sources, tmp_path / ("x.safetensors" if form == "kohya" else "x"), form)
    assert not list(tmp_path.glob("x*"))


def test_force_replaces_and_a_bad_source_leaves_the_old_file(source: Path, tmp_path: Path):
    target = tmp_path / "taken.safetensors"
    target.write_bytes(b"mine")
    bad = tmp_path / "bad.safetensors"
    save_file({"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": torch.ones(2)}, bad)
    with pytest.raises(DataError, match="LoHa"):
        export_lora([source, bad], target, "kohya", force=True)
    assert target.read_bytes() == b"mine"
    assert run(source, "--to", target, "--format", "kohya", "--force").exit_code == 0
    assert same(read_lora(target), read_lora(source))


def test_help_needs_no_torch():
    script = (
        "import sys\nfrom flows.export_command import export\n"
        "export.main(['--help'], standalone_mode=False)\nsys.exit('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.returncode == 0 and "--multiplier" in shown.stdout
