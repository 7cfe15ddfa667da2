"""A small CLIP text side: a byte-pair tokenizer learnt from captions, and a text encoder trained with the UNet."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lora_core.files import write_text
from lora_core.randomness import seed_for

START, END = "<|startoftext|>", "<|endoftext|>"


def caption_of(name: str) -> str:
    """The caption of a class-named file: `Afghan_hound` becomes `a photo of Afghan hound`; a number says nothing."""
    words = name.replace("_", " ").strip()
    return "a photo" if words.isdigit() else f"a photo of {words}"


def learn_tokenizer(captions: list[str], folder: Path, *, vocabulary: int = 1024, length: int = 24) -> CLIPTokenizer:
    """Learns CLIP-style byte-pair merges and writes them as a tokenizer folder of transformers.

    Args:
        vocabulary: tokens at most, special ones included.
        length: tokens a prompt is padded or cut to.
    """
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = sorted({letter for caption in captions for letter in caption.lower()} | set("abcdefghijklmnopqrstuvwxyz"))
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    # Every letter also at the end of a word, so that no lower-case Latin text is unknown.
    pieces = dict.fromkeys([*learnt["vocab"], *(f"{letter}</w>" for letter in letters), START, END])
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in learnt["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(
        folder / "vocab.json", json.dumps({piece: number for number, piece in enumerate(pieces)}, ensure_ascii=False)
    )
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    clip = CLIPTokenizer.from_pretrained(
        folder, model_max_length=length, bos_token=START, eos_token=END, unk_token=END, pad_token=END
    )
    clip.save_pretrained(folder)
    return clip


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
