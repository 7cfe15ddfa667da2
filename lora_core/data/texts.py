"""Embeddings of captions, each encoded once and read from a file, with a checksum that is verified.

A caption that has more tokens than the text encoder reads is cut off there; how many are is said in the log.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lora_core.bases.base import Base
from lora_core.data.records import RecordFile, RecordWriter, record_bytes
from lora_core.data.together import make_together
from lora_core.errors import DataError
from lora_core.experiment import Experiment
from lora_core.files import value_digest
from lora_core.workspace import Workspace

logger = logging.getLogger(__name__)

_VERSION = 1
_AT_ONCE = 32


class TextCache:
    """Embeddings by caption; only those that are asked for come into memory."""

    def __init__(self, file: Path, captions: Sequence[str], shape: tuple[int, int], dtype: str) -> None:
        self._file = RecordFile(file, dtype)
        self._numbers = {caption: number for number, caption in enumerate(captions)}
        self._shape = shape
        self._record = record_bytes(shape[0] * shape[1], dtype)

    def rows(self, captions: Sequence[str]) -> Tensor:
        """The embeddings of these captions, float32 (batch, tokens, width), on the CPU; from any thread.

        Raises:
            DataError: the file is damaged.
            KeyError: a caption that `open_texts` was not given.
        """
        return torch.from_numpy(np.stack([self._read(caption) for caption in captions]))

    def _read(self, caption: str) -> np.ndarray:
        number = self._numbers[caption]
        values = self._file.read(number, number * self._record, self._shape[0] * self._shape[1])
        if values is None:
            raise DataError(
                f"{self._file.path} is damaged at the caption '{caption}'; delete the cache folder "
                f"{self._file.path.parent}, and it is made again"
            )
        return values.astype(np.float32).reshape(self._shape)


def open_texts(
    workspace: Workspace, experiment: Experiment, captions: Iterable[str], base: Base, base_digest: str
) -> TextCache:
    """The embeddings of these captions, which are made first where they are missing.

    Several processes may call it at once: one encodes, the others wait.

    Args:
        workspace: holds the cache.
        experiment: its precision decides the numbers; with data.caption_dropout the empty caption is added.
        captions: in any order, repeated or not; one that is empty is the empty caption.
        base: its text encoder must be the frozen one.
        base_digest: of the base's files.

    Raises:
        DataError: an embedding that is not finite, a cache that is damaged or not what its name says.
        ResourceError: the disk is too small.
    """
    distinct = sorted(set(captions) | ({""} if experiment.data.caption_dropout else set()))
    dtype = "float32" if experiment.base.precision == "fp32" else "float16"
    shape = (int(base.tokenizer.model_max_length), int(base.text_encoder.config.hidden_size))
    section = experiment.base
    key = value_digest([_VERSION, base_digest, section.precision, section.quantise, shape, distinct])
    record = record_bytes(shape[0] * shape[1], dtype)
    manifest = {
        "version": _VERSION,
        "key": key,
        "dtype": dtype,
        "captions": len(distinct),
        "shape": list(shape),
        "bytes": record * len(distinct),
    }

    def encode(file: Path) -> None:
        _say_what_is_cut_off(distinct, base)
        writer = RecordWriter(file, dtype)
        try:
            for first in range(0, len(distinct), _AT_ONCE):
                for number, values in enumerate(_embed(base, distinct[first : first + _AT_ONCE], dtype), first):
                    writer.write(number, number * record, values)
        finally:
            writer.close()

    folder = workspace.cache / f"texts-{key[:16]}"
    return TextCache(make_together(folder, manifest, encode, "the cache of captions"), distinct, shape, dtype)


def _embed(base: Base, captions: list[str], dtype: str) -> np.ndarray:
    with torch.no_grad():
        found = base.encode_prompt(captions).float().cpu().numpy()
    with np.errstate(over="ignore"):
        values = found.astype(dtype)
    for caption, row in zip(captions, values, strict=True):
        if not np.isfinite(row).all():
            raise DataError(
                f"the embedding of the caption '{caption}' is not finite in {dtype}; the base's text encoder is "
                "damaged, or base.precision=fp32 is needed"
            )
    return values


def _say_what_is_cut_off(captions: list[str], base: Base) -> None:
    limit = base.tokenizer.model_max_length
    long: list[str] = []
    for first in range(0, len(captions), 1000):
        part = captions[first : first + 1000]
        lengths = [len(tokens) for tokens in base.tokenizer(part, truncation=False, verbose=False)["input_ids"]]
        long += [caption for caption, length in zip(part, lengths, strict=True) if length > limit]
    if long:
        logger.warning(
            "%d of %d captions have more than the %d tokens that the text encoder reads and are cut off there, "
            "for example '%s'", len(long), len(captions), limit - 2, long[0]
        )  # fmt: skip
