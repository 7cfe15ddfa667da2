"""The LoRA: where it sits, its shape, its regularisation, its files."""

import re
from typing import Literal, NamedTuple, Self

from pydantic import model_validator

from lora_core.settings import Section, field

_BLOCK_RANK = re.compile(r"^(?P<pattern>.+)=(?P<rank>[1-9]\d{0,3})(?::(?P<alpha>\d+(?:\.\d+)?))?$")


class BlockRank(NamedTuple):
    """Rank and alpha of the modules whose path matches a pattern."""

    pattern: str
    rank: int
    alpha: float


class AdapterSection(Section):
    """The LoRA."""

    rank: int = field(0, 32, "Rank of the update", ge=1, le=512)
    alpha: float = field(1, 32.0, "Scale numerator: the update is multiplied by alpha / rank", gt=0)
    layers: Literal["attention", "attention-ff", "all"] = field(
        2, "all", "Attention; attention and feed-forward; or convolutions as well (LoCon)"
    )
    layer_pattern: str | None = field(
        3, None, "Instead of layers: regular expression on the UNet's module paths, for example up_blocks.*attn2.to_v"
    )
    text_encoder: bool = field(4, False, "Train a LoRA on the text encoder too")
    block_ranks: tuple[str, ...] = field(
        5, (), "Other ranks by module path, as pattern=rank or pattern=rank:alpha, for example mid_block=64:32"
    )
    dora: bool = field(6, False, "DoRA: train the weights' magnitude apart from their direction (not for kohya files)")
    rslora: bool = field(7, False, "rsLoRA: scale by alpha / sqrt(rank) instead of alpha / rank")
    dropout: float = field(8, 0.0, "Share of a module's inputs that is dropped", ge=0, lt=1)
    rank_dropout: float = field(9, 0.0, "Share of the rank that is dropped, a picture at a time", ge=0, lt=1)
    module_dropout: float = field(10, 0.0, "Share of the modules that are dropped, a batch at a time", ge=0, lt=1)
    max_norm: float | None = field(
        11, None, "Scale a module's update down to this Frobenius norm after every step", gt=0
    )
    warm_start: str | None = field(12, None, "LoRA file or folder to start from, in any format, same layers and ranks")
    formats: Literal["kohya+diffusers", "diffusers"] = field(
        13, "kohya+diffusers", "Files a checkpoint; kohya's cannot hold DoRA or a condition channel"
    )

    @property
    def blocks(self) -> tuple[BlockRank, ...]:
        """`block_ranks`, read; alpha keeps the section's ratio where none is given."""
        found = []
        for text in self.block_ranks:
            match = _BLOCK_RANK.match(text)
            if match is None:
                raise ValueError(f"block_ranks: '{text}' is not pattern=rank or pattern=rank:alpha")
            rank = int(match["rank"])
            alpha = float(match["alpha"]) if match["alpha"] else self.alpha * rank / self.rank
            if rank > 512 or alpha <= 0:
                raise ValueError(f"block_ranks: '{text}': the rank is at most 512 and alpha above 0")
            found.append(BlockRank(match["pattern"], rank, alpha))
        return tuple(found)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for name, pattern in (
            ("layer_pattern", self.layer_pattern),
            *(("block_ranks", one.pattern) for one in self.blocks),
        ):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"{name}: '{pattern}' is not a regular expression ({error})") from error
        if self.dora and self.formats != "diffusers":
            raise ValueError("dora: a kohya file cannot hold DoRA as diffusers reads it; set adapter.formats=diffusers")
        if self.dora and (self.rank_dropout or self.max_norm):
            raise ValueError("dora: rank_dropout and max_norm act on the plain update; set them to 0 and empty")
        return self
