"""Causal rerankers that sentence-transformers saves: their chat template is the prompt, two tokens are the targets.

Version 6 writes such folders (https://sbert.net/docs/cross_encoder/usage/custom_models.html): `modules.json` lists
Transformer and LogitScore, whose config has the ids of the tokens; the chat template has a message of each of the roles
query and document, and one of the system where there is a default prompt. `sentence_bert_config.json` says what else
the template is given, `config_sentence_transformers.json` the default prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank.errors import CheckpointError, InputError
from rerank.judges.target_words import target_ids
from rerank.prompts.prompt import Prompt, Turn

__all__ = ["prompt_of"]

KINDS = ["Transformer", "LogitScore"]
MARKS = {name: f"\ue0f0{name}\ue0f1" for name in ("instruction", "query", "document")}
"""Stand for what is filled in, while the template is asked; of the private use area, where no template has text."""

NOT_THE_TEMPLATES = ("padding", "truncation", "max_length", "return_tensors", "restore_suffix")


def prompt_of(folder: Path) -> Prompt | None:
    """The prompt that a folder in this layout carries; None when it has another layout. No weight is read for it.

    Raises:
        CheckpointError: when it is in this layout and cannot be read, its template does not show query and document, or
            its targets are not what the model would write there.
    """
    modules = _read(folder / "modules.json")
    if not isinstance(modules, list) or [_kind(module) for module in modules] != KINDS:
        return None
    from transformers import AutoTokenizer

    scored = _read(folder / str(modules[1]["path"]) / "config.json")
    ids = [scored[key] for key in ("true_token_id", "false_token_id") if isinstance(scored.get(key), int)]
    if not ids or scored.get("true_token_id") != ids[0]:
        raise CheckpointError(f"{folder / str(modules[1]['path'])}: its config has no true_token_id")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = _read(folder / "config_sentence_transformers.json")
    instruction = (said.get("prompts") or {}).get(said.get("default_prompt_name")) or ""
    text = _template(folder, tokenizer, with_system=bool(instruction))
    words = tuple(str(tokenizer.decode([token])) for token in ids)
    _check_targets(folder, tokenizer, text, words, ids)
    return Prompt(
        name=f"{folder.name}'s own",
        source="https://sbert.net/docs/cross_encoder/usage/custom_models.html",
        asks="grade",
        turns=(Turn("plain", text),),
        instruction=instruction,
        targets=words,
        reading="difference" if len(ids) > 1 else "logit",
        description="the chat template that lies beside the weights",
    )


def _template(folder: Path, tokenizer: Any, *, with_system: bool) -> str:
    """What the chat template writes, with fields for what it is given."""
    from jinja2.exceptions import TemplateError

    config = _read(folder / "sentence_bert_config.json")
    message = (config.get("modality_config") or {}).get("message") or {}
    asked = (config.get("processing_kwargs") or {}).get("chat_template") or {}
    options = {name: value for name, value in asked.items() if name not in NOT_THE_TEMPLATES}
    roles = {**({"system": "instruction"} if with_system else {}), "query": "query", "document": "document"}
    listed = message.get("format") == "structured"
    messages = [
        {"role": role, "content": [{"type": "text", "text": MARKS[name]}] if listed else MARKS[name]}
        for role, name in roles.items()
    ]
    try:
        written = str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except (TemplateError, ValueError) as error:
        raise CheckpointError(f"{folder}: its chat template refuses a query and a document: {error}") from error
    if lost := [name for name in roles.values() if MARKS[name] not in written]:
        raise CheckpointError(f"{folder}: its chat template does not show the {lost[0]}; give prompt= one that does")
    if _ids(tokenizer, written, special=True) != _ids(tokenizer, written, special=False):
        raise CheckpointError(f"{folder}: its tokenizer adds special tokens to what its chat template writes")
    braced = written.replace("{", "{{").replace("}", "}}")
    return re.sub("\ue0f0(\\w+)\ue0f1", r"{\1}", braced)


def _check_targets(folder: Path, tokenizer: Any, text: str, words: tuple[str, ...], ids: list[int]) -> None:
    """Refuse targets that the judge would look up as other tokens."""
    try:
        found = list(target_ids(tokenizer, words, behind=text.rpartition("}")[2]))
    except InputError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    if found != ids:
        raise CheckpointError(f"{folder} scores tokens {ids}, and {', '.join(words)} behind its template are {found}")


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _kind(module: Any) -> str:
    return str(module.get("type", "")).rpartition(".")[2] if isinstance(module, Mapping) else ""


def _read(path: Path) -> Any:
    """A JSON file; an empty object when there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
