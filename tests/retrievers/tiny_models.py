"""Tiny encoders with random weights and a WordPiece of the words that the tests use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def tiny_bert(folder: Path, words: Sequence[str], *, kind: str = "BertModel", seed: int = 0) -> Path:
    """A checkpoint of transformers' `kind`, two layers, in `folder`."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {token: n for n, token in enumerate([*special.values(), "[MASK]", *dict.fromkeys(words)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
    made.save_pretrained(folder)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), intermediate_size=64, max_position_embeddings=64, pad_token_id=0, **shape
    )
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(config).eval()
    for parameter in model.parameters():  # large enough to tell texts apart
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
