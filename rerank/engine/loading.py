"""From a folder to a model on a device: every choice made here is named, so that the ledger can show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.errors import CheckpointError, InputError
from rerank.registry import unknown

if TYPE_CHECKING:
    import torch

__all__ = ["choose_device", "choose_dtype", "load_classifier", "longest_input"]

DTYPES = ("float32", "bfloat16", "float16")


def choose_device(name: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one, else the CPU."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}; say 'cpu', 'cuda' or 'cuda:0'") from error
    if device.type not in ("cpu", "cuda") and not (device.type == "mps" and torch.backends.mps.is_available()):
        raise InputError(f"device={name!r} cannot be used here; say 'cpu', 'cuda' or 'cuda:0'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={name!r}, but torch {torch.__version__} finds no CUDA device here; say 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"device={name!r}, but torch finds {count} CUDA devices here; the last is 'cuda:{count - 1}'")
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The dtype asked for, or bfloat16 on CUDA and float32 elsewhere."""
    import torch

    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def load_classifier(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """A sequence-classification model in evaluation mode, and its tokenizer.

    Raises:
        CheckpointError: when transformers cannot load them, or weights are missing from the checkpoint.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=dtype, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CheckpointError(f"transformers cannot load {folder}: {reason}") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of {type(model).__name__}, {missing[0]!r} among them: "
            "it has not been trained as a reranker"
        )
    return model.eval().to(device), tokenizer


def longest_input(model: Any, tokenizer: Any) -> int:
    """The most tokens that the model's positions and its tokenizer allow."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= model.config.pad_token_id + 1  # positions begin after the padding's
    return int(min(positions, tokenizer.model_max_length or 10**9))


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no advice from transformers while it loads; what matters is checked above."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
