"""A small CLIP text side: a tokenizer made from the captions, and a text encoder that is trained with the UNet."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lora_core.pretraining.data.sources.classes import caption_of as caption_of
from lora_core.randomness import seed_for

START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Iterable[str], *, vocabulary: int = 4096, length: int = 24) -> CLIPTokenizer:
    """A CLIP tokenizer that knows the captions' letters, and their words, frequent ones first.

    As CLIP's, it works on the bytes of UTF-8, written as letters, so any script can be spelt. Its merges spell each
    word from left to right; a word that meets the merges of a more frequent one is left in two or three pieces. A
    trained byte-pair model would be no better on so few words, and the library's trainer breaks ties at random, so that
    no run could be repeated.

    Args:
        vocabulary: tokens at most, special ones included.
        length: tokens a prompt is padded or cut to.
    """
    normal = (unicodedata.normalize("NFC", caption).lower() for caption in captions)
    words = Counter(_as_bytes(word) for caption in normal for word in re.findall(r"\w+|[^\w\s]+", caption))
    letters = sorted({letter for word in words for letter in word} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    pieces = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters)])
    merges: dict[tuple[str, str], None] = {}
    for word in sorted(words, key=lambda word: (-words[word], word)):
        if len(pieces) + len(word) + 2 > vocabulary:
            break
        left = word[0]
        for number, letter in enumerate(word[1:], 2):
            right = letter + ("</w>" if number == len(word) else "")
            merges.setdefault((left, right))
            left += right
            pieces.setdefault(left)
    numbers = {piece: number for number, piece in enumerate([*pieces, START, END])}
    return CLIPTokenizer(
        vocab=numbers,
        merges=list(merges),
        model_max_length=length,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )


def _as_bytes(word: str) -> str:
    """The word's UTF-8 bytes in the letters that byte-level tokenizers write for them; ASCII stays as it is."""
    return "".join(piece for piece, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word))


def build_text_encoder(tokenizer: CLIPTokenizer, *, width: int, layers: int, seed: int) -> CLIPTextModel:
    """A freshly initialised CLIP text encoder for this tokenizer; its weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("text encoder", seed))
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=4,
                max_position_embeddings=tokenizer.model_max_length,
                projection_dim=width,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token numbers, int64 (captions, length), padded or cut to the tokenizer's length."""
    tokens = tokenizer(
        captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return tokens.input_ids
