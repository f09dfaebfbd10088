"""Random-weight checkpoints in the shapes of published rerankers; nothing is downloaded, and speed does not care.

Weights are larger than transformers' own random ones, so that scores differ enough between texts for a wrong
attention mask or a lost token to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import data
from benchmarks.contest import Setting

__all__ = ["ENCODERS", "causal", "encoder", "t5"]

TINY = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 2}

ENCODERS: Mapping[str, dict[str, Any]] = {
    "MiniLM-L6": {"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536,
                  "num_hidden_layers": 6, "vocab_size": 30_522},
    "TinyBERT-L2": {"model_type": "bert", "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512,
                    "num_hidden_layers": 2, "vocab_size": 30_522},
    "BERT-base": {"model_type": "bert", "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072,
                  "num_hidden_layers": 12, "vocab_size": 30_522},
    "XLM-R-large": {"model_type": "xlm-roberta", "hidden_size": 1024, "num_attention_heads": 16,
                    "intermediate_size": 4096, "num_hidden_layers": 24, "vocab_size": 250_002,
                    "max_position_embeddings": 514, "pad_token_id": 0},
    "ModernBERT-150m": {"model_type": "modernbert", "hidden_size": 768, "num_attention_heads": 12,
                        "intermediate_size": 1152, "num_hidden_layers": 22, "vocab_size": 50_368,
                        "max_position_embeddings": 8192},
    "DeBERTa-v3-base": {"model_type": "deberta-v2", "hidden_size": 768, "num_attention_heads": 12,
                        "intermediate_size": 3072, "num_hidden_layers": 12, "vocab_size": 128_100,
                        "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
                        "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "max_position_embeddings": 512,
                        "position_biased_input": False, "type_vocab_size": 0},
}  # fmt: skip

CAUSAL: Mapping[str, dict[str, Any]] = {
    "Qwen3-0.6B": {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                   "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
                   "tie_word_embeddings": True},
    "Qwen3-4B": {"model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
                 "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
                 "tie_word_embeddings": True},
    "Mistral-7B": {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                   "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32_000,
                   "sliding_window": None, "tie_word_embeddings": False},
}  # fmt: skip
TINY_CAUSAL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
               "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 8_000}  # fmt: skip

T5: Mapping[str, dict[str, Any]] = {
    "monoT5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "monoT5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "monoT5-3B": {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": 24, "num_heads": 32},
}


def encoder(name: str, setting: Setting, *, max_tokens: int = 512) -> Path:
    """A classifier with one logit and its tokenizer, in a folder of their own."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shape = {**ENCODERS[name], **(TINY | {"vocab_size": 8_000} if setting.smoke else {})}
    folder = setting.folder / f"{name}-{max_tokens}"
    if (folder / "model.safetensors").exists():
        return folder
    data.wordpiece(folder, types=shape["model_type"] == "bert", max_tokens=max_tokens)
    special = {} if shape["model_type"] != "modernbert" else {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
    config = AutoConfig.for_model(**shape, **special, num_labels=1)
    _save(AutoModelForSequenceClassification.from_config, config, folder, spread=0.05, dtype=setting.dtype)
    return folder


def causal(name: str, setting: Setting, *, layers: int | None = None) -> Path:
    """A language model and its tokenizer, in a folder of their own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {**CAUSAL[name], **(TINY_CAUSAL if setting.smoke else {"num_hidden_layers": layers} if layers else {})}
    folder = setting.folder / f"{name}-{layers or 'all'}"
    if (folder / "config.json").exists():
        return folder
    data.bpe(folder)
    config = AutoConfig.for_model(**shape, max_position_embeddings=8192, pad_token_id=0, eos_token_id=2)
    _save(AutoModelForCausalLM.from_config, config, folder, dtype=setting.dtype)
    return folder


def t5(name: str, setting: Setting) -> Path:
    """A T5 v1.0 shape and its tokenizer, in a folder of their own."""
    from transformers import T5Config, T5ForConditionalGeneration

    shape = T5[name] if not setting.smoke else {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
    folder = setting.folder / name
    if (folder / "config.json").exists():
        return folder
    data.unigram(folder)
    config = T5Config(**shape, vocab_size=32_128, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    _save(T5ForConditionalGeneration, config, folder, dtype=setting.dtype)
    return folder


def _save(make: Any, config: Any, folder: Path, *, spread: float | None = None, dtype: str = "float32") -> None:
    torch.manual_seed(data.SEED)
    if spread is not None:
        config.initializer_range = spread
    if torch.cuda.is_available():
        with torch.device("cuda"):
            model = make(config)
    else:
        model = make(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
