"""What the project promises about pickles, names, passwords and other people's texts."""

import ast
import importlib
import json
import logging
import os
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown_it import MarkdownIt
from prefect import Flow, Task, flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from safetensors.torch import load_file

import flows
import tasks
from flows.console import Terminal
from flows.demo import demo_flow
from flows.init import init_flow
from flows.parameters import settle
from flows.pretrain import pretrain_flow
from lora_core.bases import base_digest, check_base
from lora_core.bases.stable_diffusion import open_pipeline
from lora_core.doctor import check_server
from lora_core.errors import BaseModelError, ConfigError, UserError
from lora_core.experiment import BaseModelSection, Experiment, apply_overrides, load_preset, save_experiment
from lora_core.markdown import code, escaped, fenced
from lora_core.model_card import model_card
from lora_core.pretraining.card import draft_card
from lora_core.pretraining.recipe import Recipe
from lora_core.secrets import masked
from lora_core.settings import override_settings
from tests.report_study import make_study

ROOT = Path(__file__).parents[1]
PACKAGES = ("lora_core", "tasks", "flows", "deployments")
ADDRESS = "postgresql+asyncpg://prefect:hunter22@database:5432/prefect"


class Bomb:
    """Leaves a file where a pickle of it is opened as such."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_no_code_of_ours_opens_pickles_or_runs_texts() -> None:
    """Whole calls are looked at, so that a new one cannot slip in: there is no other way to read a pickle here."""
    seen = 0
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"} & set(names), file
            if not isinstance(node, ast.Call):
                continue
            called, options = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
            if called == "torch.load":
                seen += 1
                assert options.get("weights_only") == "True", f"{file}:{node.lineno}"
            assert called not in ("eval", "exec", "yaml.load", "os.system"), f"{file}:{node.lineno}"
            assert options.get("shell") != "True" and options.get("allow_pickle") != "True", f"{file}:{node.lineno}"
    assert seen >= 5


def test_what_prefect_stores_is_json(prefect_harness: None, tmp_path: Path) -> None:
    stored = []
    for package in (flows, tasks):
        for module in pkgutil.iter_modules(package.__path__):
            made = vars(importlib.import_module(f"{package.__name__}.{module.name}")).values()
            stored += [one for one in made if isinstance(one, Flow | Task) and one.persist_result]
    assert {one.name for one in stored} >= {"round"}
    assert [one.name for one in stored if one.result_serializer != "json"] == []

    @flow(persist_result=True, result_serializer="json")
    def like_a_round() -> dict[str, Any]:
        return {"digest": "a", "winner": {"composite": 1.5}, "race": None}

    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        like_a_round()
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert json.loads(file.read_text())["winner"] == {"composite": 1.5}


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("allowed", [False, True])
def test_a_pickle_that_would_run_code_never_does(tmp_path: Path, suffix: str, allowed: bool) -> None:
    file, mark = tmp_path / f"base{suffix}", tmp_path / "mark"
    torch.save({"state_dict": {"model.diffusion_model.x": torch.zeros(1)}, "callback": Bomb(mark)}, file)
    with pytest.raises(BaseModelError, match=r"base\.") as error:
        check_base(BaseModelSection(model=str(file), allow_pickle=allowed))
    assert not mark.exists()
    assert file.name in str(error.value)
    if suffix != ".safetensors":
        assert ("weights alone" if allowed else "base.allow_pickle=true") in str(error.value)
    with file.open("rb") as opened:
        torch.load(opened, weights_only=False)
    assert mark.exists(), "opened carelessly, it does"


def test_an_allowed_pickle_gives_the_same_base(tmp_path: Path, miniature: Path, miniature_file: Path) -> None:
    file = tmp_path / "base.ckpt"
    torch.save({"state_dict": load_file(miniature_file), "epoch": 3}, file)
    section = BaseModelSection(model=str(file), config=str(miniature), allow_pickle=True)
    with pytest.raises(BaseModelError, match=r"set base\.allow_pickle=true for files that you trust"):
        check_base(section.model_copy(update={"allow_pickle": False}))
    opened, plain = (open_pipeline(one) for one in (section, BaseModelSection(model=str(miniature))))
    for name, weight in plain.unet.state_dict().items():
        assert torch.equal(opened.unet.state_dict()[name], weight), name


def test_a_folder_of_allowed_pickles_is_a_base_with_a_digest_of_its_weights(tmp_path: Path, miniature: Path) -> None:
    copy = tmp_path / "base"
    copy_pickled(miniature, copy)
    section = BaseModelSection(model=str(copy), allow_pickle=True)
    with pytest.raises(BaseModelError, match="pickled weights are refused"):
        check_base(section.model_copy(update={"allow_pickle": False}))
    opened, plain = (open_pipeline(one) for one in (section, BaseModelSection(model=str(miniature))))
    assert all(torch.equal(opened.vae.state_dict()[name], one) for name, one in plain.vae.state_dict().items())
    before = base_digest(section)
    file = copy / "vae" / "diffusion_pytorch_model.bin"
    torch.save({name: weight + 1 for name, weight in torch.load(file, weights_only=True).items()}, file)
    assert base_digest(section) != before


def copy_pickled(folder: Path, copy: Path) -> None:
    """A diffusers folder whose weights are pickles."""
    names = {"text_encoder": "pytorch_model.bin"}
    for file in (path for path in folder.rglob("*") if path.is_file()):
        target = copy / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            torch.save(load_file(file), target.with_name(names.get(file.parent.name, "diffusion_pytorch_model.bin")))
        else:
            target.write_bytes(file.read_bytes())


def test_how_a_base_is_read_is_no_part_of_a_result() -> None:
    plain = load_preset("pocket")
    allowed = apply_overrides(plain, ["base.allow_pickle=true"])
    assert plain.digest_of("base") == allowed.digest_of("base")


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "/etc", "..", ".hidden", "a\\b", "a\n", "", "x" * 65, "champion", "Champion"]
)
def test_an_experiments_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        override_settings(Experiment(), [f"name={json.dumps(name)}"], "test")


@pytest.mark.parametrize("place", ["/elsewhere", "..", "inside/../../elsewhere", "link"])
def test_what_a_form_says_stays_below_the_root(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "root", tmp_path / "elsewhere"
    save_experiment(load_preset("pocket"), outside / "experiment.yaml")
    save_experiment(load_preset("pocket"), root / "inside" / "experiment.yaml")
    (root / "link").symlink_to(outside)
    monkeypatch.setenv("PHOTO_ENHANCER_ROOT", str(root))
    monkeypatch.chdir(root)
    path = Path(place if place != "/elsewhere" else outside)
    for form in (
        lambda: settle(path),
        lambda: settle(Path("inside"), experiment=path / "experiment.yaml"),
        lambda: init_flow.fn(path),
        lambda: demo_flow.fn(path),
        lambda: pretrain_flow.fn(path),
    ):
        with pytest.raises(ConfigError, match=f"lies outside of {root}"):
            form()
    assert settle(Path("inside"))[1].name == "pocket"
    assert not (outside / "dataset").exists()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (ADDRESS, "postgresql+asyncpg://***@database:5432/prefect"),
        ("two: http://a:b1@x/ and s3://key:se/cret@y", "two: http://***@x/ and s3://key:se/cret@y"),
        ("token hf_" + "a1B2" * 9, "token ***"),
        ("http://127.0.0.1:4200/api has no password", "http://127.0.0.1:4200/api has no password"),
    ],
)
def test_passwords_are_masked(text: str, left: str) -> None:
    assert masked(text) == left


def test_secrets_of_the_environment_reach_neither_errors_nor_terminal_nor_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:opensesame")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "sometimes")  # no secret, whatever its name begins with
    assert str(UserError("the server says 0123456789abcdef, sometimes")) == "the server says ***, sometimes"
    terminal = Terminal()
    terminal.set_up()
    assert terminal.explain(ConfigError(f"cannot reach {ADDRESS} as opensesame")) == 2
    logging.getLogger("lora_core.test").warning("login with admin:opensesame")
    line = check_server("http://admin:opensesame@127.0.0.1:9/api").line
    shown = capsys.readouterr().err + line
    assert "http://***@127.0.0.1:9/api" in line and "login with ***" in shown
    assert "opensesame" not in shown and "hunter22" not in shown


@pytest.mark.parametrize(
    "setting",
    [f"base.model={ADDRESS}", "data.prompt=hf_" + "a1B2" * 9, "monitoring.prompts=[x, 'https://me:hunter22@host/']"],
)
def test_a_password_in_a_setting_is_refused_and_not_repeated(setting: str) -> None:
    with pytest.raises(ConfigError, match="holds a password or a key; settings are stored") as error:
        apply_overrides(load_preset("pocket"), [setting])
    assert "hunter22" not in str(error.value) and "a1B2" not in str(error.value)
    assert setting.partition("=")[0] in str(error.value)


def test_a_wrong_key_that_names_a_secret_is_not_repeated_with_it() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'wandb\.api_key'") as error:
        apply_overrides(load_preset("pocket"), ["wandb.api_key=0badc0de"])
    assert "0badc0de" not in str(error.value)


ATTACKS = ["<script>alert(1)</script>", "`</code><img src=x onerror=alert(1)>`", "[x](javascript:alert(1))", "a | b",
           "```\n<b>out</b>\n```", "![x](http://evil.example/x.png)"]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_in_a_card_stay_text(attack: str, photos: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path, photos, rounds=1, limit=2)
    result = json.loads(study.workspace.study("study").round(0).result.read_text())
    done = {"photos": 4, "images": 8, "stopped": "complete", "checkpoints": []}
    run = apply_overrides(study.experiment, [f"{key}={json.dumps(attack)}" for key in ("base.model", "data.prompt")])
    settings = {**_settings(run), "lora": "study.safetensors"}
    for card in (
        model_card(run, result | {"reason": attack}, done, settings),
        draft_card(Recipe(data={"terms": attack}), {"epochs": 1, "images": 2}),
        f"{escaped(attack)} {code(attack)}\n\n{fenced(attack, 'yaml')}",
    ):
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(card)  # as the careless do
        assert not any(f"<{tag}" in html for tag in ("script", "img", "b>", "a "))


def _settings(run: Experiment) -> dict[str, Any]:
    return {
        "name": "study", "diffusers": "diffusers", "prompt": run.data.prompt, "strength": 0.2, "sampler": "ddim",
        "base": run.base.model_dump(), "num_inference_steps": 5, "guidance_scale": 1.0, "lora_scale": 1.0,
        "start_noise": 0.0, "detail_return": 0.0, "colour_fix": "none", "timestep_spacing": None,
    }  # fmt: skip
