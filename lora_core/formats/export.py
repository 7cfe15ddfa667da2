"""From LoRA files to one LoRA file: read, merge, resize, write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lora_core.errors import ConfigError
from lora_core.formats import Dtype, Format
from lora_core.formats.algebra import Resized, merge, resize
from lora_core.formats.kohya import with_even_alphas
from lora_core.formats.metadata import ModelSpec, TrainingFacts, training_metadata
from lora_core.formats.reading import read_lora
from lora_core.formats.weights import DOWN, LoraWeights
from lora_core.formats.writing import check_target, write_lora

Number = TypeVar("Number", int, float)
_SD2_TEXT_WIDTH = 1024
# Belong to the tensors, so a new file has its own.
_HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        modules: how many modules have an update.
        rank: the largest rank among them.
        kept_energy: share of the squared norm of the update that a lower rank left, 1 where nothing was cut.
        weakest: the module that lost most, and its share.
        sha256: of the weights file.
    """

    path: Path
    format: Format
    modules: int
    rank: int
    kept_energy: float
    weakest: tuple[str, float]
    sha256: str


def export_lora(
    sources: Sequence[Path],
    target: Path,
    form: Format,
    *,
    multipliers: Sequence[float] | None = None,
    rank: int | None = None,
    dtype: Dtype = "fp32",
    force: bool = False,
) -> Exported:
    """Writes the sum of LoRAs in a format; the target appears whole or not at all.

    Args:
        sources: files or folders in any format; one is converted, several are added up.
        target: a `.safetensors` file for 'kohya', a folder for the others.
        multipliers: one for each source; without them each counts once.
        rank: at most this rank, by the best approximation.
        force: replace an existing target.

    Raises:
        ConfigError: the target exists or is one of the sources, a multiplier too many or too few, what the format
            cannot hold.
        DataError: a source that cannot be read.
        ResourceError: the target cannot be written.
    """
    factors = _factors(sources, multipliers)
    _check_target(sources, target, form, force)
    loaded = [read_lora(path) for path in sources]
    try:
        whole = loaded[0] if factors == [1.0] else merge(list(zip(loaded, factors, strict=True)))
        modules = whole.modules()
        resized = resize(whole, rank) if rank is not None else Resized(whole, dict.fromkeys(modules, 1.0), 1.0)
        written = with_even_alphas(resized.weights) if form == "kohya" else resized.weights
        digest = write_lora(resized.weights, target, form, _metadata(written, loaded, sources, target), dtype)
    except ConfigError as error:
        special = [path for path, one in zip(sources, loaded, strict=True) if one.dora or one.control]
        if not special:
            raise
        raise ConfigError(f"{special[0]}: {error}") from error
    ranks = [resized.weights.rank(module) for module in modules]
    weakest = min(resized.kept.items(), key=lambda item: (item[1], item[0]))
    return Exported(target, form, len(modules), max(ranks), resized.overall, weakest, digest)


def _factors(sources: Sequence[Path], multipliers: Sequence[float] | None) -> list[float]:
    if not sources:
        raise ConfigError("no LoRA to export")
    factors = [1.0] * len(sources) if not multipliers else [float(value) for value in multipliers]
    if len(factors) != len(sources):
        raise ConfigError(f"{len(factors)} multipliers for {len(sources)} LoRAs; give one for each, in their order")
    if odd := [value for value in factors if not math.isfinite(value) or value == 0]:
        raise ConfigError(f"multiplier {odd[0]} is not a number other than 0; leave that LoRA out")
    return factors


def _check_target(sources: Sequence[Path], target: Path, form: Format, force: bool) -> None:
    place = target.resolve()
    for source in sources:
        given = source.resolve()
        if place == given or place in given.parents or given in place.parents:
            raise ConfigError(f"{target} is, holds or lies in {source}, which is read; name another place")
    check_target(target, form)
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; name another place, or replace it with --force")


def _metadata(
    weights: LoraWeights, loaded: Sequence[LoraWeights], sources: Sequence[Path], target: Path
) -> dict[str, str]:
    """kohya's minimum, and what the one source said of itself; of several, only their names."""
    known = {
        key: value
        for key, value in loaded[0].metadata.items()
        if key.startswith(("ss_", "modelspec.")) and key not in _HASHES
    }
    v2 = known.get("ss_v2", str(_reads_sd2_text(weights))) == "True"
    velocity = known.get("ss_base_model_version", "").endswith("_v")
    side = 768 if v2 and velocity else 512  # of the base, where the file does not say what it was trained at
    facts = TrainingFacts(
        spec=ModelSpec(title=target.stem),
        output_name=target.stem,
        network_dim=_same([weights.rank(module) for module in weights.modules()]),
        network_alpha=_same([weights.alphas[module] for module in weights.modules()]),
        resolution=(side, side),
        v2=v2,
        v_parameterization=velocity,
    )
    made = training_metadata(facts)
    minimum = {key: made[key] for key in ("ss_v2", "ss_base_model_version", "ss_network_module", "ss_output_name")}
    minimum |= {key: value for key, value in made.items() if key.startswith("modelspec.")}
    measured = {key: made[key] for key in ("ss_network_dim", "ss_network_alpha")}
    if len(sources) == 1:
        if known.get("ss_network_dim") != measured["ss_network_dim"]:
            known.pop("ss_network_args", None)  # says the ranks of the convolutions before
        return {**minimum, **known, **measured}
    names = [one.metadata.get("modelspec.title", path.stem) for one, path in zip(loaded, sources, strict=True)]
    return {**minimum, **measured, "modelspec.merged_from": ", ".join(names)}


def _reads_sd2_text(weights: LoraWeights) -> bool:
    """Cross-attention of SD 2.x reads text 1024 wide, of SD 1.x 768."""
    keys = [f"{module}.{DOWN}" for module in weights.modules("unet") if module.endswith("attn2.to_k")]
    return any(weights.tensors[key].shape[1] == _SD2_TEXT_WIDTH for key in keys)


def _same(values: list[Number]) -> Number | str:
    """The one value that all have, or kohya's word for several."""
    return values[0] if len(set(values)) == 1 else "Dynamic"
