"""The training process of one round: `python -m lora_core.training.worker WORKSPACE EXPERIMENT ROUND ERROR_FILE`."""

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from lora_core.bases import base_digest
from lora_core.bases.stable_diffusion import default_device, open_base
from lora_core.data.latents import view_cache
from lora_core.data.pairs import Pair, training_pairs
from lora_core.errors import BaseModelError, ConfigError
from lora_core.experiment import Experiment, load_experiment
from lora_core.files import read_json, write_json
from lora_core.lora import attach, save_lora
from lora_core.process import child_main, only_one
from lora_core.progress import progress_bar
from lora_core.restoration import starts_of
from lora_core.training.launch import run_digest
from lora_core.training.loop import Run
from lora_core.training.monitor import Monitor
from lora_core.training.optimiser import make_optimiser, make_schedule
from lora_core.training.plan import Plan
from lora_core.training.state import RunState
from lora_core.workspace import RoundFolder, Workspace


def train(workspace: Workspace, experiment: Experiment, number: int) -> None:
    """Trains round `number`, from its last saved state where there is one, to its manifest."""
    folder = workspace.study(experiment.name).round(number)
    pairs = training_pairs(workspace, experiment)
    before = base_digest(experiment.base)
    digest = run_digest(experiment, pairs, before)
    run = set_up(workspace, experiment, pairs, before, digest)
    if (folder.state / "state.json").exists():
        run.state.restore(folder.state, read_json(folder.state / "state.json"))
    stopped = _fit(run, pairs, folder, workspace.tensorboard / experiment.name / folder.root.name)
    if base_digest(experiment.base) != before:
        raise BaseModelError(
            f"base.model: {experiment.base.model} changed while the round was trained; its result is not used"
        )
    if run.accelerator.is_main_process:
        write_json(
            folder.training_done,
            {
                "digest": digest,
                "images": run.state.updates * run.plan.images_per_update,
                "epochs": experiment.training.epochs,
                "stopped": stopped,
                "photos": len(pairs),
                "base_digest": before,
                "checkpoints": read_json(folder.training / "checkpoints.json"),
            },
        )


def set_up(workspace: Workspace, experiment: Experiment, pairs: list[Pair], base_digest: str, digest: str) -> Run:
    """Opens the base, caches the views, attaches the LoRA and makes the optimiser."""
    torch.set_grad_enabled(False)
    precision = "fp16" if experiment.base.precision == "fp16" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=default_device().type == "cpu")
    if accelerator.num_processes != experiment.training.processes:
        raise ConfigError(
            f"training.processes is {experiment.training.processes}, {accelerator.num_processes} were started"
        )
    base = open_base(experiment.base, accelerator.device)
    with accelerator.main_process_first(), progress_bar("cache", "photo", len(pairs)) as bar:
        cache = view_cache(workspace, experiment, pairs, base, base_digest, lambda done, _: bar.update(done - bar.n))
        bar.update(len(pairs) - bar.n)
    base.vae.to("cpu")
    adapter = attach(base, experiment.adapter, experiment.seed)
    text = None if adapter.text_encoder else base.encode_prompt([experiment.data.prompt])
    if text is not None:
        base.text_encoder.to("cpu")
    if experiment.training.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    base.unet.train()
    plan = Plan.of(experiment, pairs)
    optimiser = make_optimiser(adapter, experiment.training)
    schedule = make_schedule(optimiser, experiment.training, plan.updates)
    base.unet, *_ = models = [accelerator.prepare(base.unet)]
    if adapter.text_encoder:
        base.text_encoder = accelerator.prepare(base.text_encoder)
        models.append(base.text_encoder)
    state = RunState(digest, adapter, accelerator.prepare(optimiser), schedule, accelerator.scaler)
    starts = starts_of(base.scheduler_config, experiment.sweep)
    return Run(experiment, plan, cache, starts, adapter, state, accelerator, models, text)


def _fit(run: Run, pairs: list[Pair], folder: RoundFolder, tensorboard: Path) -> str:
    plan, state = run.plan, run.state
    if not run.accelerator.is_main_process:
        nothing = lambda *_: None  # noqa: E731
        return run.fit(observe=nothing, save_state=nothing, save_checkpoint=nothing)
    monitor = Monitor(
        folder.train_log,
        tensorboard,
        images_per_update=plan.images_per_update,
        images_per_epoch=len(plan.items),
        updates=plan.updates,
        done=state.updates,
        describe=lambda update: _files(plan, pairs, update),
    )

    def save_state() -> None:
        monitor.flush()
        state.save(folder.state)

    def save_checkpoint(epoch: int) -> None:
        monitor.flush()
        _save_checkpoint(run, folder, epoch)

    try:
        return run.fit(observe=monitor.update, save_state=save_state, save_checkpoint=save_checkpoint)
    finally:
        monitor.close()


def _files(plan: Plan, pairs: list[Pair], update: int) -> list[str]:
    first = (update - 1) * plan.images_per_update
    return [pairs[plan.sample(position)[0]].clean.name for position in range(first, first + plan.images_per_update)]


def _save_checkpoint(run: Run, folder: RoundFolder, epoch: int) -> None:
    name = f"{run.experiment.name}-{epoch:06d}"
    facts = {
        "ss_epoch": str(epoch),
        "ss_num_epochs": str(run.plan.epochs),
        "ss_steps": str(run.state.updates),
        "ss_max_train_steps": str(run.plan.updates),
        "ss_num_train_images": str(len(run.plan.items)),
    }
    digest = save_lora(run.adapter, run.experiment, folder.checkpoints / f"{name}.safetensors", facts)
    index = folder.training / "checkpoints.json"
    known = [row for row in (read_json(index) if index.exists() else []) if row["epoch"] < epoch]
    row: dict[str, Any] = {
        "epoch": epoch,
        "kohya": f"checkpoints/{name}.safetensors",
        "diffusers": f"checkpoints/{name}",
        "digest": digest,
    }
    write_json(index, [*known, row])


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    root, experiment, number = arguments
    workspace, settings = Workspace(Path(root)), load_experiment(Path(experiment))
    folder = workspace.study(settings.name).round(int(number))
    rank_zero = os.environ.get("RANK", "0") == "0"
    lock = only_one(folder.training) if rank_zero else None
    try:
        train(workspace, settings, int(number))
    finally:
        if lock:
            lock.release()


if __name__ == "__main__":
    child_main(main)
