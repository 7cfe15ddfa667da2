"""Pictures for the eye at each checkpoint: test photographs restored as the sweep would, and pictures from texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from lora_core.bases.base import Base, to_rgb
from lora_core.data.pairs import Pair
from lora_core.denoising import Denoising
from lora_core.experiment import Experiment
from lora_core.files import whole_folder
from lora_core.images import centre_crop, read_rgb, write_png
from lora_core.randomness import seed_for
from lora_core.restoration import denoisings_of, restore_latents, return_detail
from lora_core.sweep.inputs import Input, encode_inputs

_SIDE = 512
_PROMPT_STEPS, _PROMPT_GUIDANCE = 20, 5.0


@dataclass(frozen=True)
class Samples:
    """What is shown at each checkpoint."""

    experiment: Experiment
    base: Base
    how: Denoising
    photos: Sequence[Input]

    @torch.no_grad()
    def save(self, folder: Path, text: Tensor, empty: Tensor, prompts: Tensor) -> dict[str, list[np.ndarray]]:
        """Writes the pictures of the weights in place, whole or not at all.

        Args:
            text, empty: embeddings of the instruction and of no text, (1, tokens, width).
            prompts: embeddings of the sample prompts, (prompts, tokens, width).

        Returns:
            The pictures, (height, width, 3) uint8, by "restored" and "prompts".
        """
        place = self.base.vae.device
        self.base.vae.to(self.base.device)
        with whole_folder(folder) as temporary:
            restored = [self._restored(sample, text, empty) for sample in self.photos]
            for sample, picture in zip(self.photos, restored, strict=True):
                write_png(temporary / f"{sample.name}.png", picture)
            drawn = [self._drawn(number, row[None], empty) for number, row in enumerate(prompts)]
            for number, picture in enumerate(drawn):
                write_png(temporary / f"prompt-{number:02d}.png", picture)
        self.base.vae.to(place)
        return {"restored": restored, "prompts": drawn}

    def _restored(self, shown: Input, text: Tensor, empty: Tensor) -> np.ndarray:
        noise = shown.noise(self.experiment.seed, self.how.seed)[None].to(self.base.device)
        latents = restore_latents(self.base, shown.latents[None], torch.cat([empty, text]), [self.how], noise)
        share = self.experiment.sweep.detail_returns[-1]
        pixels = return_detail(self.base.decode(latents), shown.dropped[None].to(latents.device), share)
        return to_rgb(pixels)[0, : shown.size[0], : shown.size[1]]

    def _drawn(self, number: int, text: Tensor, empty: Tensor) -> np.ndarray:
        base = self.base
        pipeline = StableDiffusionPipeline(
            base.vae, base.text_encoder, base.tokenizer, base.unet,
            DDIMScheduler.from_config(base.scheduler_config), None, None, requires_safety_checker=False,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(seed_for("prompt", self.experiment.seed, number))
        side = self.experiment.data.resolution
        with base.autocast():
            picture = pipeline(
                prompt_embeds=text.to(base.dtype), negative_prompt_embeds=empty.to(base.dtype), width=side, height=side,
                num_inference_steps=_PROMPT_STEPS, guidance_scale=_PROMPT_GUIDANCE, generator=generator,
                output_type="np",
            ).images[0]  # fmt: skip
        return np.asarray((picture * 255).round(), dtype=np.uint8)


def open_samples(experiment: Experiment, pairs: Sequence[Pair], base: Base) -> Samples | None:
    """Encodes the photographs to be shown; None where the experiment wants no pictures."""
    monitoring, side = experiment.monitoring, experiment.data.test_size or _SIDE
    if not monitoring.samples and not monitoring.prompts:
        return None
    pictures = {pair.name: centre_crop(read_rgb(pair.degraded), side) for pair in pairs[: monitoring.samples]}
    ways = denoisings_of(base.scheduler_config, experiment.sweep)
    inputs = encode_inputs(base, pictures, experiment.sweep.batch)
    return Samples(experiment, base, ways[len(ways) // 2], inputs)
