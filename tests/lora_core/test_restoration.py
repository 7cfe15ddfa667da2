"""At full start noise and no detail return the sampler is diffusers' own img2img pipeline, picture for picture."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base, open_pipeline
from lora_core.errors import ConfigError
from lora_core.experiment import BaseModelSection, SweepSection
from lora_core.images import read_rgb
from lora_core.restoration import find_start, make_scheduler, restore_latents


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
def test_batch_equals_the_pipeline_called_image_by_image(miniature, photos, sampler):
    section = BaseModelSection(model=str(miniature))
    pipeline = StableDiffusionImg2ImgPipeline(**open_pipeline(section).components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    base = open_base(section, torch.device("cpu"))
    sweep = SweepSection(sampler=sampler, strengths=(0.5,), steps=(5,), timestep_spacing="trailing")
    pictures = np.stack([read_rgb(path)[:64, :128] for path in sorted(photos.iterdir())[:2]])
    with torch.no_grad():
        latents, text = base.encode(to_pixels(pictures)), base.encode_prompt(["a photo"] * 2)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    start = find_start(make_scheduler(base.scheduler_config, sweep), 0.5, 5)
    ours = base.decode(restore_latents(base, latents, text, start, 1.0, noise, sweep))
    for row in range(2):
        scheduler = make_scheduler(base.scheduler_config, sweep)
        scheduler.set_timesteps(start.num_inference_steps)
        first = scheduler.timesteps[start.num_inference_steps - 5 :][:1]
        if sampler != "ddim":
            scheduler.set_begin_index(start.num_inference_steps - 5)
        noised = scheduler.add_noise(latents[row : row + 1], noise[row : row + 1], first)
        pipeline.scheduler = make_scheduler(base.scheduler_config, sweep)
        if sampler == "ddim":  # SD 1.5's configuration stops one timestep short of the clean latents
            pipeline.scheduler.final_alpha_cumprod = torch.tensor(1.0)
        pipeline.prepare_latents = lambda *_, noised=noised, **__: noised.clone()
        theirs = pipeline(
            "a photo", image=to_pixels(pictures[row : row + 1]), strength=0.5,
            num_inference_steps=start.num_inference_steps, guidance_scale=1.0, output_type="pt",
        ).images  # fmt: skip
        assert np.abs(to_rgb(ours[row : row + 1]).astype(int) - to_rgb(theirs * 2 - 1)).max() <= 1


def test_too_many_steps_at_a_low_strength_are_refused_by_name(miniature):
    scheduler = make_scheduler(open_base(BaseModelSection(model=str(miniature))).scheduler_config, SweepSection())
    with pytest.raises(ConfigError, match=r"30 steps at strength 0.02 would need 1500 inference steps"):
        find_start(scheduler, 0.02, 30)
