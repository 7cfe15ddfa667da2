"""The photographs: framing, captions, masks, caching."""

from typing import Literal

from lora_core.settings import Section, field


class DataSection(Section):
    """Which part of the photographs is used, and how."""

    resolution: int = field(
        0, 128, "Side of a training crop in pixels; of a bucket, the root of its area", ge=32, le=2048, multiple_of=8
    )
    views: int = field(1, 8, "Cached views a photo: each has its own crop, flip and degradation", ge=1, le=256)
    flip: bool = field(2, True, "Mirror half of the views; both halves of a pair and the mask alike")
    prompt: str = field(3, "", "The instruction given with every picture, in training and in the sweep")
    test_size: int | None = field(4, None, "Score the centre crop of this side; empty: whole photographs", ge=32)
    test_limit: int | None = field(5, None, "Score at most so many test photographs, first by name", ge=1)
    framing: Literal["crop", "bucket"] = field(
        6,
        "crop",
        "crop: a square cut from the photo at its own scale; bucket: the whole photo, scaled to its aspect ratio",
    )
    bucket_step: int = field(7, 64, "Sides of buckets are multiples of this, in pixels", ge=8, le=512, multiple_of=8)
    bucket_ratio: float = field(8, 2.0, "Longest side over shortest, of the longest bucket", ge=1, le=8)
    bucket_upscale: bool = field(9, False, "Enlarge photographs that are smaller than their bucket")
    captions: Literal["prompt", "files"] = field(
        10, "prompt", "prompt: the instruction above for all; files: .txt, .caption, captions.json or metadata.jsonl"
    )
    missing_caption: Literal["error", "prompt"] = field(
        11, "error", "A photo without a caption: stop, or take the instruction and count it"
    )
    caption_dropout: float = field(12, 0.0, "Share of the views that are trained with an empty caption", ge=0, lt=1)
    masks: Literal["none", "alpha", "folder"] = field(
        13, "none", "Weight the loss by the photo's alpha channel, or by grey pictures of its name in dataset/masks/"
    )
    unmasked_weight: float = field(14, 0.0, "Weight of the loss where the mask is black; white is 1", ge=0, le=1)
    cache: bool = field(
        15,
        True,
        "Encode the views once; else every visit is cropped, degraded and encoded anew (slower, endless variety)",
    )
