"""Causal language models in training: prompts in one row, attention within each, states read where they matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rerank.engine.loading import explained, quiet
from rerank.errors import InputError
from rerank.kernels.target_logits import token_log_probs
from training.students.packed import register, rows_of, run_packed
from training.students.student import Lora, kept_randomness, quantized

__all__ = ["answer_log_probs", "answer_rows", "last_tokens", "load_model", "row_states", "try_packed"]

AGREES = 2e-3
"""How far packed states may be from the model's own, in float32, relative to their size."""


def load_model(
    folder: Path, head: str, dtype: str, lora: Lora | None, *, shape: Any = None, **config: Any
) -> tuple[Any, Any]:
    """A model of transformers and its tokenizer.

    Args:
        folder: of the checkpoint; one out of a GGUF file is read as the toolkit reads it.
        head: the class of transformers.
        dtype: of the weights.
        lora: may quantise them.
        shape: its config, for a checkpoint whose own says a class that transformers does not have.
        config: changes to its config.

    Raises:
        CheckpointError: when transformers cannot load it.
        InputError: when it reads both ways, and one that writes is wanted.
    """
    import transformers

    with quiet(), explained(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        shape = transformers.AutoConfig.from_pretrained(folder, **config) if shape is None else shape
        _check_direction(folder, head, shape)
        if getattr(shape, "pad_token_id", None) is None:
            shape.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else shape.eos_token_id
        model = getattr(transformers, head).from_pretrained(
            folder, config=shape, dtype=getattr(torch, dtype), **quantized(lora, dtype)
        )
    return model, tokenizer


def _check_direction(folder: Path, head: str, shape: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as encoders

    if "Seq2Seq" not in head and shape.model_type in encoders and not getattr(shape, "is_encoder_decoder", False):
        raise InputError(
            f"{folder.name} is a {shape.model_type}, which reads in both directions; a causal language model is "
            "wanted, which --model names"
        )


def row_states(
    model: Any,
    ids: Tensor,
    types: Tensor,
    places: Tensor,
    lengths: Tensor,
    slots: Tensor,
    *,
    packed: bool,
    embed: Any = None,
) -> Tensor:
    """The last hidden states of all tokens of a row: [tokens, hidden]. Arguments as of `Rows` and `run_packed`."""
    if packed:
        return run_packed(model.base_model, ids, types, places, lengths, typed=False, embed=embed, use_cache=False)
    texts = torch.split(ids, lengths.tolist())
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    padded = pad_sequence(list(texts), batch_first=True)
    read = {"input_ids": padded} if embed is None else {"inputs_embeds": embed(padded)}
    states = model.base_model(**read, attention_mask=mask, use_cache=False).last_hidden_state
    whole: Tensor = states[mask.bool()]
    return whole


def answer_rows(read: Sequence[tuple[Sequence[int], Sequence[int]]]) -> dict[str, Tensor]:
    """Prompts and their answers in one row, and where an answer's tokens are predicted from.

    Args:
        read: the ids of each prompt, and of its answer.

    Returns:
        The row (`Rows.as_inputs`); `at`, places of the row one token in front of each answer's tokens, `written`, their
        ids, and `token_mask`, which of these there are: [texts, tokens].
    """
    rows = rows_of([[*prompt, *answer] for prompt, answer in read])
    offsets = (rows.lengths.cumsum(0) - rows.lengths)[rows.slots.argsort()]
    at = [torch.arange(len(answer)) + offsets[i] + len(prompt) - 1 for i, (prompt, answer) in enumerate(read)]
    lengths = torch.tensor([len(answer) for _, answer in read])
    return {
        **rows.as_inputs(),
        "at": pad_sequence(at, batch_first=True),
        "written": pad_sequence([torch.tensor(list(answer)) for _, answer in read], batch_first=True),
        "token_mask": torch.arange(int(lengths.max())) < lengths[:, None],
    }


def answer_log_probs(model: Any, states: Tensor, at: Tensor, written: Tensor, token_mask: Tensor) -> Tensor:
    """The log-probability of each token of each answer: [texts, tokens], 0 where there is none.

    Args:
        model: of transformers, whose head is read.
        states: of a row, [tokens, hidden].
        at, written, token_mask: as of `answer_rows`.
    """
    head = model.get_output_embeddings()
    said = token_log_probs(states[at[token_mask]], head.weight, written[token_mask], head.bias)
    placed: Tensor = said.new_zeros(token_mask.shape).masked_scatter(token_mask, said)
    return placed


def last_tokens(lengths: Tensor, slots: Tensor) -> Tensor:
    """Where each text's last token lies in a row, in the order of the texts given: [texts]."""
    return (lengths.cumsum(0) - 1)[slots.argsort()]


def try_packed(model: Any, packed: bool | None) -> str:
    """Set packed attention where the model gives the same by it; why it is padded, or ""."""
    if packed is False:
        return "packed=False"
    usual, training = model.config._attn_implementation, model.training
    rows = rows_of([[(7 * place) % 90 + 5 for place in range(length)] for length in (6, 3, 24)])
    inputs = {name: tensor.to(model.device) for name, tensor in rows.as_inputs().items()}
    model.eval()
    with torch.no_grad(), kept_randomness():
        own = row_states(model, **inputs, packed=False)
        model.set_attn_implementation(register())
        try:
            got = row_states(model, **inputs, packed=True)
            gap = float((got - own).abs().max() / own.abs().max().clamp(min=1e-6))
        except (TypeError, ValueError, RuntimeError):
            gap = float("inf")
    model.train(training)
    if gap <= AGREES * (1 if model.dtype == torch.float32 else 50):
        return ""
    model.set_attn_implementation(usual)
    return f"packed attention changes its states by {gap:.1e}"
