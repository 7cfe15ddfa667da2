"""At full start noise and no detail return the sampler is diffusers' own img2img pipeline, picture for picture."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from lora_core.bases.base import to_pixels, to_rgb
from lora_core.bases.stable_diffusion import open_base, open_pipeline
from lora_core.denoising import Denoising
from lora_core.errors import ConfigError
from lora_core.experiment import BaseModelSection, SweepSection
from lora_core.images import read_rgb
from lora_core.restoration import denoisings_of, find_start, make_scheduler, restore_latents


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_batch_equals_the_pipeline_called_image_by_image(miniature, photos, sampler, guidance):
    section = BaseModelSection(model=str(miniature))
    pipeline = StableDiffusionImg2ImgPipeline(**open_pipeline(section).components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    base = open_base(section, torch.device("cpu"))
    pictures = np.stack([read_rgb(path)[:64, :128] for path in sorted(photos.iterdir())[:2]])
    with torch.no_grad():
        latents, text = base.encode(to_pixels(pictures)), base.encode_prompt(["", "a photo"])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    start = find_start(make_scheduler(base.scheduler_config, sampler, "trailing"), 0.5, 5)
    ours = base.decode(restore_latents(base, latents, text, [Denoising(start, 1.0, sampler, guidance)] * 2, noise))
    for row in range(2):
        scheduler = make_scheduler(base.scheduler_config, sampler, "trailing")
        scheduler.set_timesteps(start.num_inference_steps)
        first = scheduler.timesteps[start.num_inference_steps - 5 :][:1]
        if sampler != "ddim":
            scheduler.set_begin_index(start.num_inference_steps - 5)
        noised = scheduler.add_noise(latents[row : row + 1], noise[row : row + 1], first)
        pipeline.scheduler = make_scheduler(base.scheduler_config, sampler, "trailing")
        if sampler == "ddim":  # SD 1.5's configuration stops one timestep short of the clean latents
            pipeline.scheduler.final_alpha_cumprod = torch.tensor(1.0)
        pipeline.prepare_latents = lambda *_, noised=noised, **__: noised.clone()
        theirs = pipeline(
            "a photo", image=to_pixels(pictures[row : row + 1]), strength=0.5,
            num_inference_steps=start.num_inference_steps, guidance_scale=guidance, output_type="pt",
        ).images  # fmt: skip
        assert np.abs(to_rgb(ours[row : row + 1]).astype(int) - to_rgb(theirs * 2 - 1)).max() <= 1


def test_too_many_steps_at_a_low_strength_are_refused_by_name(miniature):
    scheduler = make_scheduler(open_base(BaseModelSection(model=str(miniature))).scheduler_config, "ddim", "trailing")
    with pytest.raises(ConfigError, match=r"30 steps at strength 0.02 would need 1500 inference steps"):
        find_start(scheduler, 0.02, 30)


def test_pictures_of_several_strengths_and_noises_share_a_batch(miniature):
    """A batch of mixed timesteps is what each picture gets alone; seeds count only where there is noise."""
    base = open_base(BaseModelSection(model=str(miniature)), torch.device("cpu"))
    sweep = SweepSection(strengths="0.2-0.6 [3]", steps=(2,), start_noises=(0.0, 1.0), seeds=(0, 7))
    ways = denoisings_of(base.scheduler_config, sweep)
    assert len(ways) == 3 * (1 + 2) and len({way.together for way in ways}) == 1
    drawn = torch.randn(2, len(ways), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = base.encode_prompt(["", "a photo"])
    together = restore_latents(base, drawn[0], text, ways, drawn[1])
    for row, way in enumerate(ways):
        alone = restore_latents(base, drawn[0, row : row + 1], text, [way], drawn[1, row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)
