"""Synthetic texts of given token counts, and tokenizers trained on them: seeded, and nothing is downloaded.

Speed depends on how many tokens texts have and on what they split into, not on what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LENGTHS", "Collection", "Writer", "bpe", "lengths", "unigram", "wordpiece"]

SEED = 7
WORDS = 12_000
STARTS = "b c d f g k l m n p r s t v st tr ch".split()  # noqa: SIM905
SYLLABLES = [start + vowel for start in STARTS for vowel in "aeiou"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

LENGTHS = {
    "u128": lambda rng, count: np.full(count, 128),
    "u150": lambda rng, count: np.full(count, 150),
    "marco": lambda rng, count: rng.lognormal(np.log(80) - 0.5**2 / 2, 0.5, count).clip(16, 256),
    "nq": lambda rng, count: rng.lognormal(np.log(150) - 0.7**2 / 2, 0.7, count).clip(16, 512),
    "long": lambda rng, count: rng.uniform(512, 4096, count),
}
"""Tokens of query, document and special tokens together: each a distribution of whole inputs."""


def lengths(name: str, count: int, *, seed: int = SEED, shrink: int = 1) -> list[int]:
    """Tokens of `count` inputs; with `shrink`, so many times shorter, for runs that only show that things work."""
    drawn = LENGTHS[name](np.random.default_rng(seed), count)
    return [max(16, int(length) // shrink) for length in drawn]


@cache
def words() -> tuple[str, ...]:
    """Made-up words of one to five syllables, each once, the short ones first, as in a language."""
    rng = np.random.default_rng(SEED)
    made: dict[str, None] = {}
    while len(made) < WORDS:
        size = 1 + min(4, int(rng.integers(0, 2 + len(made) // 800)))
        made["".join(rng.choice(SYLLABLES, size))] = None
    return tuple(made)


@cache
def corpus() -> tuple[str, ...]:
    """Sentences to train tokenizers on: words as often as Zipf's law has them."""
    rng = np.random.default_rng(SEED)
    ranks = 1.0 / np.arange(5, WORDS + 5)
    drawn = rng.choice(WORDS, size=(3_000, 20), p=ranks / ranks.sum())
    return tuple(" ".join(words()[index] for index in row) for row in drawn)


@dataclass(frozen=True)
class Collection:
    """A query and its candidates, as texts."""

    query: str
    documents: list[str]


class Writer:
    """Writes texts that a tokenizer splits into exactly so many tokens.

    Args:
        backend: of the tokenizers library; words after a blank must split by themselves, as all of these do.
    """

    def __init__(self, backend: Any, *, seed: int = SEED) -> None:
        self._rng = np.random.default_rng(seed)
        start = len(backend.encode("ba", add_special_tokens=False).ids)
        encoded = backend.encode_batch([f"ba {word}" for word in words()], add_special_tokens=False)
        costs = np.array([len(encoding.ids) - start for encoding in encoded])
        self._costs = costs
        self._single = np.flatnonzero(costs == 1)
        ranks = 1.0 / np.arange(5, WORDS + 5)
        self._chance = np.cumsum(ranks / ranks.sum())

    def text(self, tokens: int) -> str:
        """A text of exactly so many tokens, at least 1."""
        drawn = np.searchsorted(self._chance, self._rng.random(tokens)).clip(max=WORDS - 1)
        taken = drawn[np.cumsum(self._costs[drawn]) <= tokens - 1]
        missing = tokens - int(self._costs[taken].sum())
        chosen = [*self._rng.choice(self._single, missing), *taken]  # a word of one token first
        return " ".join(words()[index] for index in chosen)

    def collection(self, totals: Sequence[int], *, query: int, extra: int) -> Collection:
        """A query of so many tokens and a document for each total, of which `extra` are the template's."""
        return Collection(self.text(query), [self.text(max(1, total - query - extra)) for total in totals])


def wordpiece(folder: Path, *, types: bool = True, max_tokens: int = 512, vocab: int = 8_000) -> None:
    """BERT's kind of tokenizer, with every file that its readers want."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        corpus(), trainers.WordPieceTrainer(vocab_size=vocab, special_tokens=SPECIAL, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    _save(tokenizer, folder, {f"{name}_token": token for name, token in names.items()}, inputs, max_tokens)


def bpe(folder: Path, *, max_tokens: int = 4096) -> None:
    """The kind of tokenizer that causal language models have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8_000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus(), "yes no A B"], trainer)
    special = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    _save(tokenizer, folder, special, ["input_ids", "attention_mask"], max_tokens)


def unigram(folder: Path, *, max_tokens: int = 512) -> None:
    """T5's kind of tokenizer; "true" and "false" are tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=8_000, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    _with_pieces(tokenizer, ["▁true", "▁false", "▁Query:", "▁Document:", "▁Relevant:"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    _save(tokenizer, folder, special, ["input_ids", "attention_mask"], max_tokens, kind="T5Tokenizer")


def _with_pieces(tokenizer: Any, pieces: Sequence[str]) -> None:
    """Give a unigram model some whole words, likely enough to be chosen."""
    from tokenizers import models

    state = json.loads(tokenizer.to_str())["model"]
    known = {piece for piece, _ in state["vocab"]}
    state["vocab"] += [[piece, -1.0] for piece in pieces if piece not in known]
    tokenizer.model = models.Unigram([(piece, score) for piece, score in state["vocab"]], unk_id=2)


def _save(
    tokenizer: Any,
    folder: Path,
    special: dict[str, str],
    inputs: list[str],
    max_tokens: int,
    *,
    kind: str = "PreTrainedTokenizerFast",
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": kind, "model_max_length": max_tokens, "model_input_names": inputs, **special}
    if kind == "T5Tokenizer":
        config["extra_ids"] = 0
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
