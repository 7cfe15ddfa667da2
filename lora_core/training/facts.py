"""What a checkpoint's kohya file says of its run: every fact a function of experiment, photographs and plan."""

from collections import Counter
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from lora_core.bases.base import Base
from lora_core.data.buckets import Shapes
from lora_core.data.pairs import Pair
from lora_core.experiment import Experiment
from lora_core.formats.metadata import ModelSpec, TrainingFacts
from lora_core.training.plan import Plan


def facts_of(
    experiment: Experiment, base: Base, pairs: Sequence[Pair], priors: Sequence[Pair], shapes: Shapes, plan: Plan
) -> TrainingFacts:
    """The facts of a run; what changes from checkpoint to checkpoint is put in by `at_epoch`."""
    adapter, data, training, objective = experiment.adapter, experiment.data, experiment.training, experiment.objective
    width = base.text_encoder.config.hidden_size
    return TrainingFacts(
        spec=ModelSpec(title=experiment.name, trigger_phrase=data.prompt or None, usage_hint=_usage(experiment)),
        output_name=experiment.name,
        network_dim="Dynamic" if adapter.block_ranks else adapter.rank,
        network_alpha="Dynamic" if adapter.block_ranks else adapter.alpha,
        network_args={"conv_dim": adapter.rank, "conv_alpha": adapter.alpha} if adapter.layers == "all" else {},
        network_dropout=adapter.dropout or None,
        resolution=(data.resolution, data.resolution),
        v2=width == 1024,
        v_parameterization=base.schedule.prediction_type == "v_prediction",
        sd_model_name=experiment.base.model,
        learning_rate=training.learning_rate,
        unet_lr=training.learning_rate,
        text_encoder_lr=training.text_encoder_learning_rate if adapter.text_encoder else None,
        lr_scheduler=training.scheduler,
        lr_warmup_steps=round(training.warmup * plan.updates),
        optimizer=training.optimizer,
        max_grad_norm=training.max_grad_norm,
        mixed_precision="no" if experiment.base.precision == "fp32" else experiment.base.precision,
        gradient_checkpointing=training.gradient_checkpointing,
        total_batch_size=plan.images_per_update,
        num_train_images=plan.images_per_epoch,
        num_reg_images=sum(pair.repeats for pair in priors),
        num_batches_per_epoch=ceil(plan.updates / plan.epochs),
        num_epochs=plan.epochs,
        max_train_steps=plan.updates,
        seed=experiment.seed,
        cache_latents=data.cache,
        caption_dropout_rate=data.caption_dropout,
        flip_aug=data.flip,
        random_crop=True,
        enable_bucket=data.framing == "bucket",
        noise_offset=objective.noise_offset or None,
        min_snr_gamma=objective.snr_gamma if objective.weighting == "min-snr" else None,
        debiased_estimation=objective.weighting == "debiased",
        prior_loss_weight=objective.prior_images or 1.0,
        loss_type=objective.loss,
        huber_c=objective.huber_delta if objective.loss == "huber" else None,
        scale_weight_norms=adapter.max_norm,
        tag_frequency=_tags(experiment, pairs),
        dataset_dirs=_folders(pairs),
        reg_dataset_dirs=_folders(priors),
        bucket_info=_buckets(shapes) if data.framing == "bucket" else None,
    )


def _usage(experiment: Experiment) -> str:
    strengths = experiment.sweep.strengths
    return (
        f"img2img on degraded photographs, denoising strength {min(strengths):g} to {max(strengths):g}, "
        f"guidance {experiment.sweep.guidance_scales[0]:g}"
    )


def _folders(pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    counts = Counter((Path(pair.clean_file).parent.name, pair.repeats) for pair in pairs)
    return {folder: {"n_repeats": repeats, "img_count": count} for (folder, repeats), count in sorted(counts.items())}


def _tags(experiment: Experiment, pairs: Sequence[Pair]) -> dict[str, dict[str, int]] | None:
    """How often each comma-separated tag stands in the captions of a folder, as web UIs list them."""
    if experiment.data.captions != "files":
        return None
    tags: dict[str, Counter[str]] = {}
    for pair in pairs:
        found = (tag.strip() for tag in pair.caption.split(","))
        tags.setdefault(Path(pair.clean_file).parent.name, Counter()).update(tag for tag in found if tag)
    return {folder: dict(sorted(counts.items())) for folder, counts in sorted(tags.items())}


def _buckets(shapes: Shapes) -> dict[str, object]:
    counts = Counter(int(index) for index in shapes.index)
    return {
        "buckets": {
            str(number): {"resolution": [bucket.width, bucket.height], "count": counts[number]}
            for number, bucket in enumerate(shapes.buckets)
        }
    }
