"""Checkpoints to start from that two cores can train: real ones, and tiny random ones of other architectures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from small_marco import PASSAGES, QUERIES

from rerank.checkpoints import fetch

__all__ = ["REAL", "TINY", "checkpoint"]

REAL = (
    "all-MiniLM-L6-v2",
    "bert-mini-reranker",
    "ms-marco-MiniLM-L12-v2",
    "flan-t5-small-titles",
    "SmolLM2-135M-Instruct",
)
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
WORDPIECES, BYTE_PAIRS = 30_522, 3_000

TINY: Mapping[str, tuple[str, str, str, dict[str, Any]]] = {
    "tiny-electra": ("all-MiniLM-L6-v2", "ElectraConfig", "ElectraForPreTraining",
                     {**SHAPE, "vocab_size": WORDPIECES, "embedding_size": 64}),
    "tiny-deberta": ("all-MiniLM-L6-v2", "DebertaV2Config", "DebertaV2ForMaskedLM",
                     {**SHAPE, "vocab_size": WORDPIECES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                      "position_buckets": 16, "position_biased_input": False, "norm_rel_ebd": "layer_norm",
                      "share_att_key": True, "type_vocab_size": 0, "max_position_embeddings": 512}),
    "tiny-distilbert": ("all-MiniLM-L6-v2", "DistilBertConfig", "DistilBertForMaskedLM",
                        {"vocab_size": WORDPIECES, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}),
    "tiny-t5": ("flan-t5-small-titles", "T5Config", "T5ForConditionalGeneration",
                {"vocab_size": 32_128, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
                 "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "tie_word_embeddings": True}),
    "tiny-llama": ("SmolLM2-135M-Instruct", "LlamaConfig", "LlamaForCausalLM",
                   {**SHAPE, "vocab_size": BYTE_PAIRS, "num_key_value_heads": 2, "max_position_embeddings": 4096,
                    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "tie_word_embeddings": True}),
}  # fmt: skip
"""Name -> whose tokenizer, config and model of transformers, and the shape."""

WEIGHTS = ("config.json", "generation_config.json", "source.json", "modules.json", "1_Pooling")
"""What is of a checkpoint's weights, and not of its tokenizer."""


def checkpoint(name: str, folder: Path) -> Path:
    """A folder with this checkpoint: the real one, or a tiny one that is made in `folder` once, seed 0."""
    if name in REAL:
        return fetch(name)
    if not (folder / name / "config.json").exists():
        _make(name, folder / name)
    return folder / name


def _make(name: str, folder: Path) -> None:
    import transformers

    tokens, config, model, shape = TINY[name]
    transformers.set_seed(0)
    getattr(transformers, model)(getattr(transformers, config)(**shape)).save_pretrained(folder)
    if shape["vocab_size"] == BYTE_PAIRS:
        _learnt_tokenizer(fetch(tokens)).save_pretrained(folder)
        return
    for file in fetch(tokens).iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name not in WEIGHTS:
            shutil.copy(file, folder / file.name)


def _learnt_tokenizer(folder: Path) -> Any:
    """A tokenizer like a checkpoint's, learnt from prompts and passages: GRPO is slow with a large vocabulary."""
    import transformers

    templates = (files("rerank") / "prompts" / "templates").iterdir()
    texts = [*PASSAGES.values(), *QUERIES.values(), *(file.read_text(encoding="utf-8") for file in templates)]
    return transformers.AutoTokenizer.from_pretrained(folder).train_new_from_iterator(texts, BYTE_PAIRS)
