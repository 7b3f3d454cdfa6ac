"""Make the CLIP tokenizer's files: one token a caption word, bytes for everything else."""

from __future__ import annotations

import json
from pathlib import Path

from data import ATTRIBUTES, WORK
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
EXTRA = ("pixel", "art", "portrait", "hair", "hat", "skin", "shirt", "background", "bald", ",")


def words() -> list[str]:
    """Every word that a caption can contain."""
    values = " ".join(value for group in ATTRIBUTES.values() for value in group).split()
    return sorted({*values, *EXTRA} - {"none", "plain"})


def write(folder: Path) -> CLIPTokenizer:
    """Merges come from byte-pair training on the words alone, so each word ends as one token."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=0, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator(words(), trainer)
    merges = [" ".join(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(m.split()) for m in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    made = CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_LENGTH)
    assert all(len(made(word).input_ids) == 3 for word in words())
    return made


if __name__ == "__main__":
    tokenizer = write(WORK / "tokenizer")
    tokenizer.save_pretrained(WORK / "tokenizer")
    print(len(tokenizer), words())
