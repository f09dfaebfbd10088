"""A quantised GGUF file into a Hugging Face folder: float32 weights, tokenizer and chat template out of the one file.

transformers reads the format with the `gguf` package. It takes its time (a minute for 135M parameters), so it is done
once, and what is loaded from then on is a folder like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from rerank.errors import CheckpointError
from rerank.registry import extra_for

__all__ = ["check_installed", "to_folder"]


def check_installed(what: str) -> None:
    """See that the format can be read.

    Args:
        what: that wants it, for the message.

    Raises:
        CheckpointError: when the package is not there.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(str(extra_for(what, "gguf")))


def to_folder(source: Path, target: Path) -> None:
    """Make a Hugging Face folder of a folder with one GGUF file of a causal language model.

    Raises:
        CheckpointError: when it has none, or transformers cannot read it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    files = sorted(path.name for path in source.glob("*.gguf"))
    if len(files) != 1:
        raise CheckpointError(f"there are {len(files)} GGUF files, and one is wanted")
    with _quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=files[0], quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=files[0])
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"transformers cannot read {files[0]}: {error}".splitlines()[0]) from error
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


@contextmanager
def _quiet() -> Iterator[None]:
    """No advice and no progress bars, one of which asks nobody: what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
