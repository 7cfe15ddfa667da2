"""Setting up a training run: base, caches, LoRA, terms of the loss, optimiser; each in the order that memory wants.

What is cached leaves the device: the autoencoder once the views are encoded and no term looks at pixels, the text
encoder once the captions are and it is not trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from lora_core.bases.base import Base, in_evaluation
from lora_core.bases.stable_diffusion import default_device, open_base
from lora_core.data.buckets import Shapes
from lora_core.data.latents import open_views
from lora_core.data.pairs import Pair, prior_pairs, test_pairs
from lora_core.data.shapes import shapes_of
from lora_core.data.texts import open_texts
from lora_core.data.views import ViewSource
from lora_core.errors import ConfigError
from lora_core.experiment import Experiment
from lora_core.formats.metadata import TrainingFacts
from lora_core.formats.reading import read_lora
from lora_core.lora import Adapter, attach, warm_start
from lora_core.objectives import OBJECTIVES
from lora_core.progress import progress_bar
from lora_core.restoration import starts_of
from lora_core.training.batches import BatchMaker
from lora_core.training.facts import facts_of
from lora_core.training.fused import fuse
from lora_core.training.loop import Run
from lora_core.training.losses import TimestepBins, distance_of, weighting_of
from lora_core.training.memory import candidates, largest_that_fits
from lora_core.training.optimiser import Average, make_optimiser, make_schedule
from lora_core.training.pixels import pixel_terms
from lora_core.training.plan import Plan
from lora_core.training.samples import Samples, open_samples
from lora_core.training.sharding import shard
from lora_core.training.state import RunState
from lora_core.training.terms import Paired, Preservation, PriorImages, Term, Text, Texts
from lora_core.training.validation import Validation, open_validation
from lora_core.workspace import Workspace

_KEPT_CAPTIONS = 256
"""Distinct captions whose embeddings stay on the device."""


@dataclass(frozen=True)
class SetUp:
    """A run and what is watched of it."""

    run: Run
    paired: Paired
    bins: TimestepBins
    validation: Validation | None
    samples: Samples | None
    texts: Texts
    facts: TrainingFacts

    def base_loss(self) -> float | None:
        """The validation loss of the base without LoRA; None where nothing is validated."""
        if self.validation is None:
            return None
        with self.run.adapter.disabled():
            return _validated(self.validation, self.paired)


def open_accelerator(experiment: Experiment) -> Accelerator:
    """The accelerator of this process.

    Raises:
        ConfigError: other than `training.processes` processes were started.
    """
    precision = "fp16" if experiment.base.precision == "fp16" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=default_device().type == "cpu")
    if accelerator.num_processes != experiment.training.processes:
        raise ConfigError(
            f"training.processes is {experiment.training.processes}, {accelerator.num_processes} were started"
        )
    return accelerator


def set_up(
    workspace: Workspace,
    experiment: Experiment,
    pairs: list[Pair],
    accelerator: Accelerator,
    base_digest: str,
    digest: str,
) -> SetUp:
    """Opens the base, caches views and texts, attaches the LoRA and makes the optimiser.

    Raises:
        UserError: of many kinds, before the first step: settings, photographs, captions, base, memory, disk.
    """
    base = open_base(experiment.base, accelerator.device)
    adapter = attach(base, experiment.adapter, experiment.seed, control=experiment.objective.control)
    if experiment.adapter.warm_start:
        warm_start(adapter, read_lora(Path(experiment.adapter.warm_start).expanduser()))
    pixels = pixel_terms(base, experiment.objective, experiment.scoring)
    starts = starts_of(base.scheduler_config, experiment.sweep)
    priors, tests = prior_pairs(workspace, experiment), test_pairs(workspace, experiment)
    shapes = shapes_of(workspace, experiment, pairs, base.multiple)
    views = _views(workspace, experiment, pairs, shapes, base, base_digest, accelerator)
    samples = open_samples(experiment, tests, base)
    texts = _texts(workspace, experiment, [*pairs, *priors], base, base_digest)
    bins = TimestepBins(len(base.schedule.alphas_cumprod), base.device)
    paired = Paired(
        adapter, OBJECTIVES[experiment.objective.kind], weighting_of(experiment.objective),
        distance_of(experiment.objective), pixels, bins.add,
    )  # fmt: skip
    validation = open_validation(experiment, tests, base, starts, texts)
    terms: list[Term] = [paired]
    if weight := experiment.objective.prior_preservation:
        terms.append(Preservation(adapter, weight, experiment.seed))
    if priors:
        terms.append(_prior_term(workspace, experiment, priors, adapter, base_digest, accelerator, texts))
    if experiment.data.cache and not pixels:
        base.vae.to("cpu")
    if not adapter.text_encoder:
        base.text_encoder.to("cpu")
    plan = Plan.of(experiment, pairs, shapes.index)
    state = _state(experiment, plan, adapter, digest, accelerator)
    facts = facts_of(experiment, base, pairs, priors, shapes, plan)
    _prepare(base, adapter, experiment)
    batches = BatchMaker(experiment, plan, views, captions_of(pairs, experiment), texts, starts, base.device)
    validate = None if validation is None else lambda: _validated(validation, paired)
    run = Run(experiment, plan, terms, batches, validate, adapter, state, accelerator)
    _fit_memory(run)
    bins.take()
    return SetUp(run, paired, bins, validation, samples, texts, facts)


def captions_of(pairs: Sequence[Pair], experiment: Experiment) -> list[str]:
    """The caption of each pair: its own, or the instruction for all."""
    if experiment.data.captions == "files":
        return [pair.caption for pair in pairs]
    return [experiment.data.prompt] * len(pairs)


def _views(
    workspace: Workspace,
    experiment: Experiment,
    pairs: list[Pair],
    shapes: Shapes,
    base: Base,
    base_digest: str,
    accelerator: Accelerator,
) -> ViewSource:
    with progress_bar("cache", "photo", len(pairs)) as bar:
        views = open_views(
            workspace, experiment, pairs, shapes, base, base_digest,
            progress=lambda done, _: bar.update(done - bar.n),
            share=(accelerator.process_index, accelerator.num_processes),
            barrier=accelerator.wait_for_everyone,
        )  # fmt: skip
        bar.update(len(pairs) - bar.n)
    return views


def _prior_term(
    workspace: Workspace,
    experiment: Experiment,
    priors: list[Pair],
    adapter: Adapter,
    base_digest: str,
    accelerator: Accelerator,
    texts: Texts,
) -> PriorImages:
    shapes = shapes_of(workspace, experiment, priors, adapter.base.multiple)
    views = _views(workspace, experiment, priors, shapes, adapter.base, base_digest, accelerator)
    return PriorImages(
        adapter, experiment.objective.prior_images, experiment.seed, views,
        [number for number, pair in enumerate(priors) for _ in range(pair.repeats)],
        experiment.data.views, captions_of(priors, experiment), texts,
    )  # fmt: skip


def _texts(workspace: Workspace, experiment: Experiment, pairs: Sequence[Pair], base: Base, base_digest: str) -> Texts:
    """Embeddings from the device where they are few, from the cache; in the step where the text encoder is trained."""
    if experiment.adapter.text_encoder:
        return lambda captions: lambda: base.encode_prompt(list(captions))
    everything = {*captions_of(pairs, experiment), experiment.data.prompt, "", *experiment.monitoring.prompts}
    cache = open_texts(workspace, experiment, everything, base, base_digest)
    known = {text: cache.rows([text]).to(base.device) for text in everything if len(everything) <= _KEPT_CAPTIONS}

    def texts(captions: Sequence[str]) -> Text:
        rows = torch.cat([known[text] for text in captions]) if known else cache.rows(captions)
        moved = rows.to(base.device, non_blocking=True)
        return lambda: moved

    return texts


def _state(experiment: Experiment, plan: Plan, adapter: Adapter, digest: str, accelerator: Accelerator) -> RunState:
    optimiser = make_optimiser(adapter, experiment.training)
    schedule = make_schedule(optimiser, experiment.training, plan.updates)
    if hasattr(optimiser, "train"):  # schedule-free
        optimiser.train()
    half_life = experiment.training.ema
    average = Average(adapter.parameters(), half_life) if half_life else None
    return RunState(digest, adapter, accelerator.prepare(optimiser), schedule, accelerator.scaler, average)


def _prepare(base: Base, adapter: Adapter, experiment: Experiment) -> None:
    """Puts the UNet into the form in which it trains.

    Several processes are not wrapped in DDP: what they must agree on is the LoRA's gradient, one tensor that the loop
    averages (`lora_core.training.sharding`); DDP would put gradients of its own in the place of that tensor's views.
    """
    if experiment.training.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    base.unet.train()
    base.text_encoder.train(bool(adapter.text_encoder))
    fuse(adapter)
    if experiment.training.compile:
        base.unet.compile(dynamic=False)
    if experiment.training.sharding == "fsdp":
        shard(base.unet, adapter.parameters(), base.device)


def _fit_memory(run: Run) -> None:
    """Takes the largest batch that the GPU's memory holds; all processes agree on the smallest of theirs."""
    if not run.experiment.training.fit_memory or run.accelerator.device.type != "cuda":
        return
    fitting = largest_that_fits(candidates(run.plan.batch, run.plan.accumulation, larger=True), run.attempt)
    sizes = run.accelerator.gather(torch.tensor([fitting], device=run.accelerator.device))
    run.plan = run.plan.split(int(sizes.min()))


def _validated(validation: Validation, paired: Paired) -> float:
    """The validation loss, dropout off."""
    with in_evaluation(paired.adapter.base):
        return validation.loss(paired)
