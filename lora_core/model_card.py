"""The model card that goes with a champion: what it is, what it does measurably, and how to use it."""

from typing import Any

from lora_core.experiment import Experiment
from lora_core.markdown import code, escaped
from lora_core.metrics import CONVENTIONS

_SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "dpm++": "DPMSolverMultistepScheduler"}
_WEB_UI_SAMPLERS = {"ddim": "DDIM", "euler": "Euler", "dpm++": "DPM++ 2M"}
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def model_card(run: Experiment, result: dict[str, Any], done: dict[str, Any], settings: dict[str, Any]) -> str:
    """The card as Markdown.

    Args:
        run: the round's experiment, its changes applied.
        result: the round's `result.json`.
        done: the round's `training/done.json`.
        settings: the champion's `settings.json`.
    """
    parts = [
        _warning(result),
        f"# {run.name}",
        _summary(run, result),
        "## Scores\n\n" + _scores(run, result),
        "## How it was made\n\n" + _making(run, result, done),
        "## How to use it\n\n" + _use(settings),
        "## Limits\n\n" + _limits(run, result, done),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warning(result: dict[str, Any]) -> str:
    if result["beats"]["input"]:
        return ""
    points = result["winner"]["composite"]
    return (
        f"**This LoRA does not beat the degraded input ({points:+.2f} points): "
        "leaving the photographs as they are scores at least as well.**"
    )


def _summary(run: Experiment, result: dict[str, Any]) -> str:
    winner, name = result["winner"], result["perceptual"]["name"]
    return (
        f"A LoRA of rank {run.adapter.rank} that restores degraded photographs by img2img on {code(run.base.model)}. "
        f"On {winner['photos']} photographs held out of training it changes PSNR-Y by {winner['gain_psnr_y']:+.2f} dB, "
        f"SSIM-Y by {winner['gain_ssim_y']:+.4f} and the perceptual distance, {name}, by "
        f"{-winner['gain_perceptual']:+.1%}, each against the degraded input."
    )


def _scores(run: Experiment, result: dict[str, Any]) -> str:
    name, weights = result["perceptual"]["name"], run.scoring
    rows = [
        (f"this LoRA ({result['winner']['name']})", result["winner"]),
        ("degraded input", result["input"]),
        ("base without LoRA, at its best", result["base"]),
        (f"best classical method: {result['classical']['name']}", result["classical"]),
        ("original through the autoencoder", result["autoencoder"]),
    ]
    lines = [
        f"| | PSNR-Y ↑ | PSNR-RGB ↑ | SSIM-Y ↑ | SSIM-RGB ↑ | {name} ↓ | points ↑ |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {label} | {row['psnr_y']:.2f} | {row['psnr_rgb']:.2f} | {row['ssim_y']:.4f} | {row['ssim_rgb']:.4f} "
            f"| {row['perceptual']:.4f} | {row['composite']:+.2f} |"
            for label, row in rows
        ),
    ]
    metrics = {"PSNR-Y": "psnr_y", "PSNR-RGB": "psnr_rgb", "SSIM-Y": "ssim_y", "SSIM-RGB": "ssim_rgb"}
    notes = [f"- {label}: {CONVENTIONS[key]}" for label, key in metrics.items()]
    notes += [
        f"- {name}: {result['perceptual']['reason']}",
        f"- Points: weighted mean of the gains over the input, where 1 dB of PSNR-Y (weight {weights.psnr_weight:g}), "
        f"0.04 of SSIM-Y ({weights.ssim_weight:g}) and 10 % less perceptual distance "
        f"({weights.perceptual_weight:g}) are a point each; the input has 0.",
    ]
    verdicts = {"the degraded input": "input", "the classical method": "classical", "the base without LoRA": "base"}
    beaten = [f"{'beats' if result['beats'][key] else 'does not beat'} {label}" for label, key in verdicts.items()]
    return "\n".join(lines) + f"\n\nIt {', '.join(beaten)}.\n\n" + "\n".join(notes)


def _making(run: Experiment, result: dict[str, Any], done: dict[str, Any]) -> str:
    training, objective, adapter = run.training, run.objective, run.adapter
    return "\n".join(
        [
            f"- Base: {code(run.base.model)}, sha256 {result['base_digest']}",
            f"- Data: {done['photos']} photographs and their degraded twins (preset `{run.degradation.preset}`, "
            f"seed {run.degradation.seed}), {result['winner']['photos']} others to score on; "
            f"sha256 {result['dataset_digest']}",
            f"- Adapter: rank {adapter.rank}, alpha {adapter.alpha:g}, "
            f"layers {code(adapter.layer_pattern or adapter.layers)}"
            + (", DoRA" if adapter.dora else "")
            + (", text encoder too" if adapter.text_encoder else ""),
            f"- Objective: `{objective.kind}`, timesteps `{objective.timesteps}`, {run.data.resolution} pixels",
            f"- Training: {done['images']} views, batch {training.batch}, learning rate "
            f"{training.learning_rate:.3g}, {training.optimizer}, {training.scheduler}; this is epoch "
            f"{result['winner']['epoch']} of round {result['round']}",
            f"- Why these values: {escaped(result['reason'])}",
        ]
    )


def _use(settings: dict[str, Any]) -> str:
    here = "`settings.json` holds everything that the scored pictures were made with."
    if settings["base"]["model"] == "pocket":
        return f"{here} The `pocket` base ships inside Photo Enhancer (`lora_core/bases/pocket`, a diffusers folder)."
    web_ui = (
        _web_ui(settings) if settings["lora"] else "**Web UIs** cannot load it: no kohya file holds this kind of LoRA."
    )
    return f"{here}\n\n{web_ui}\n\n{_diffusers(settings)}\n\n{_losses(settings)}"


def _web_ui(settings: dict[str, Any]) -> str:
    prompt = f"{settings['prompt']} <lora:{settings['name']}:{settings['lora_scale']:g}>".strip()
    return (
        f"**AUTOMATIC1111** (and what descends from it): put `{settings['lora']}` into `models/Lora`, choose the base, "
        f"and in img2img set the prompt {code(prompt)}, sampling method {_WEB_UI_SAMPLERS[settings['sampler']]}, "
        f"sampling steps {settings['num_inference_steps']}, denoising strength {settings['strength']:g}, "
        f"CFG scale {settings['guidance_scale']:g}, and the width and height of the photograph."
    )


def _diffusers(settings: dict[str, Any]) -> str:
    base, scheduler = settings["base"], _SCHEDULERS[settings["sampler"]]
    loader = "from_single_file" if base["model"].endswith(".safetensors") else "from_pretrained"
    revision = f", revision={base['revision']!r}" if base["revision"] else ""
    arguments = f"{base['model']!r}{revision}, torch_dtype=torch.{_DTYPES[base['precision']]}"
    spacing = f", timestep_spacing={settings['timestep_spacing']!r}" if settings["timestep_spacing"] else ""
    return f"""**diffusers**:

```python
import torch
from diffusers import {scheduler}, StableDiffusionImg2ImgPipeline
from PIL import Image

pipe = StableDiffusionImg2ImgPipeline.{loader}({arguments})
pipe.scheduler = {scheduler}.from_config(pipe.scheduler.config{spacing})
pipe.load_lora_weights({settings["diffusers"]!r}, weight_name="pytorch_lora_weights.safetensors"){_scaled(settings)}
restored = pipe(
    prompt={settings["prompt"]!r},
    image=Image.open("photo.jpg").convert("RGB"),
    strength={settings["strength"]!r},
    num_inference_steps={settings["num_inference_steps"]!r},
    guidance_scale={settings["guidance_scale"]!r},
).images[0]
```"""


def _scaled(settings: dict[str, Any]) -> str:
    scale = settings["lora_scale"]
    return "" if scale == 1 else f"\npipe.set_adapters(pipe.get_active_adapters(), {scale!r})"


def _losses(settings: dict[str, Any]) -> str:
    """What the winner uses and other programs do not have."""
    missing = []
    if settings["start_noise"] < 1:
        missing.append(f"a start noise of {settings['start_noise']:g} (they always start with all of it)")
    if settings["detail_return"] > 0:
        missing.append(f"a detail return of {settings['detail_return']:g}")
    if settings["colour_fix"] != "none":
        missing.append(f"the input's colours put back ({settings['colour_fix']})")
    if not missing:
        return "Start noise and detail return are as in those programs; their timestep grid may differ a little."
    return (
        f"The scores above need {' and '.join(missing)}. Neither the web UI nor the plain diffusers pipeline has that, "
        "so expect less there; only Photo Enhancer reproduces the scores."
    )


def _limits(run: Experiment, result: dict[str, Any], done: dict[str, Any]) -> str:
    winner = result["winner"]
    lines = [
        f"- It was trained on the damage of the preset `{run.degradation.preset}` and measured on no other.",
        f"- The scores are means over {winner['photos']} photographs of one collection, and the winner was chosen on "
        "those same photographs, so they are slightly flattering.",
        "- It belongs to its base model, whose licence applies, and does nothing useful on another one.",
    ]
    if done["stopped"] != "complete":
        last = max(checkpoint["epoch"] for checkpoint in done["checkpoints"])
        lines.append(f"- Training was ended by its {done['stopped']} in epoch {last} of {run.training.epochs}.")
    lines += [
        f"- It does not beat {label}."
        for key, label in (
            ("input", "the degraded input"),
            ("classical", f"{result['classical']['name']}, a classical method"),
        )
        if not result["beats"][key]
    ]
    return "\n".join(lines)
