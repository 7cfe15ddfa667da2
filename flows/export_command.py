"""`photo-enhancer export`: a LoRA in another format, at a lower rank, or several made one. No torch before it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from flows.console import terminal_options
from flows.options import PATH
from lora_core.formats import Dtype, Format

if TYPE_CHECKING:
    from lora_core.formats.export import Exported


@click.command()
@click.argument("loras", nargs=-1, required=True, type=PATH, metavar="LORA...")
@click.option("--to", "target", required=True, type=PATH, metavar="PATH", help="File (kohya) or folder to write.")
@click.option("--format", "form", required=True, type=click.Choice(get_args(Format)), help="Who is to read it.")
@click.option("--rank", type=click.IntRange(1), metavar="N", help="At most this rank, by the best approximation.")
@click.option(
    "--multiplier", "multipliers", multiple=True, type=float, metavar="X", help="Strength, one for each LORA in order."
)
@click.option("--dtype", type=click.Choice(get_args(Dtype)), default="fp32", show_default=True, help="Precision.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@terminal_options
def export(
    loras: tuple[Path, ...],
    target: Path,
    form: Format,
    rank: int | None,
    multipliers: tuple[float, ...],
    dtype: Dtype,
    force: bool,
) -> None:
    """Write a LoRA for A1111 and ComfyUI (kohya), diffusers or PEFT; several are added up.

    LORA is a .safetensors file of kohya's or diffusers', or a diffusers or PEFT folder, for SD 1.x or 2.x.
    """
    from lora_core.formats.export import export_lora

    done = export_lora(loras, target, form, multipliers=multipliers, rank=rank, dtype=dtype, force=force)
    click.echo(_summary(done))
    click.echo(f"Next: {_next_step(done)}")


def _summary(done: "Exported") -> str:
    line = f"{done.path}: {done.format}, {done.modules} modules, rank {done.rank}"
    if done.kept_energy < 1:
        module, share = done.weakest
        line += f", {done.kept_energy:.2%} of the update kept (least: {share:.2%} of {module})"
    return f"{line}, sha256 {done.sha256[:16]}"


def _next_step(done: "Exported") -> str:
    if done.format == "kohya":
        return f"copy it into models/Lora of A1111 or models/loras of ComfyUI, prompt <lora:{done.path.stem}:1>"
    if done.format == "diffusers":
        return f"pipeline.load_lora_weights({str(done.path)!r})"
    models = (("unet", done.path), ("text_encoder", done.path / "text_encoder"))
    there = [(name, folder) for name, folder in models if (folder / "adapter_config.json").exists()]
    return ", ".join(f"PeftModel.from_pretrained(pipeline.{name}, {str(folder)!r})" for name, folder in there)
