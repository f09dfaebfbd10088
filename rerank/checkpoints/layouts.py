"""How encoders that read one text at a time lie in a folder: sentence-transformers, PyLate, ColBERT, lightning-ir.

Only JSON is read here. A layout says what is put around a text, which tokens count, and which layers stand behind the
backbone; `rerank.engine.encoders.heads` loads those.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rerank.errors import CheckpointError

__all__ = [
    "PUNCTUATION",
    "Expansion",
    "Layout",
    "Projection",
    "check_modules",
    "layout_kind",
    "read_layout",
    "read_sparse_layout",
    "sparse_modules",
]

PUNCTUATION = tuple(string.punctuation)

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
METADATA = "artifact.metadata"
ROUTER = "router_config.json"

KNOWN_MODULES = ("Transformer", "Pooling", "Dense", "Normalize", "MultiVectorMask")


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer behind the backbone.

    Args:
        folder: where its weights lie.
        prefix: of its weights' names, "linear." say.
        activation: what follows it, by the name of a module of `torch.nn`.
        residual: whether its input is added to what the activation gives.
    """

    folder: Path
    prefix: str = "linear."
    activation: str = "Identity"
    residual: bool = False


@dataclass(frozen=True, slots=True)
class Expansion:
    """A query is filled up with a token, [MASK] as a rule, whose vectors count as any other's.

    Args:
        tokens: to so many.
        seen: whether the other tokens look at them.
        token: which; the tokenizer's mask, or its end where it has none, by default.
        cut: whether a longer query is cut to `tokens`.
    """

    tokens: int
    seen: bool = False
    token: str = ""
    cut: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of such an encoder.

    Args:
        query_prompt, document_prompt: what is put in front of a text.
        markers: which of those, or which of their beginnings, are one token where the tokenizer knows it.
        query_tokens, document_tokens: the most that are read, special tokens included; None: what the model reads.
        expansion: of queries, or None.
        skipped: tokens of documents whose vectors do not count; `skipped_of_queries` those of queries.
        kept_only: ids of the only tokens of documents that count; empty: all do.
        projections: behind the backbone, in order.
        pooling: how texts become one vector: "cls", "mean" …; empty where every token keeps its own. Of sparse vectors
            "max" or "sum", and "log1p" behind it where weights are damped once more.
        prompt_pooled: whether the prompt's tokens are pooled with the others.
        normalised: whether vectors are brought to length 1.
        similarity: "maxsim", "meanmaxsim", "cosine", "dot", "euclidean" or "manhattan".
        lower_case: whether texts are put in lower case first.
        files: what all this was read from, and weights beside the backbone's: part of what decides answers.
    """

    query_prompt: str = ""
    document_prompt: str = ""
    markers: tuple[str, ...] = ()
    query_tokens: int | None = None
    document_tokens: int | None = None
    expansion: Expansion | None = None
    skipped: tuple[str, ...] = ()
    skipped_of_queries: tuple[str, ...] = ()
    kept_only: tuple[int, ...] = ()
    projections: tuple[Projection, ...] = ()
    pooling: tuple[str, ...] = ()
    prompt_pooled: bool = True
    normalised: bool = True
    similarity: str = "maxsim"
    lower_case: bool = False
    files: tuple[Path, ...] = ()

    @property
    def identity(self) -> str:
        """What of it decides answers, and the files it was read from: for the key of a judge."""
        said = repr(replace(self, projections=(), files=()))
        digests = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in self.files]
        return " ".join([said, *digests])


def layout_kind(folder: Path, config: Mapping[str, Any]) -> str | None:
    """What an encoder without a classifier is: "late-interaction", "term-weights", "bi-encoder", "encoder"; or None.

    Args:
        folder: of the checkpoint.
        config: its config.json.

    Raises:
        CheckpointError: when a file of sentence-transformers cannot be read.
    """
    architecture = str((config.get("architectures") or [""])[0])
    if architecture == "HF_ColBERT" or _is_lightning(config):
        return "late-interaction"
    if architecture == "TILDEv2":
        return "term-weights"
    modules = [_class_of(module) for module in _modules(folder)]
    if "Pooling" in modules:
        return "bi-encoder"
    if modules:
        return "late-interaction"
    return "encoder" if architecture.endswith("Model") else None


def read_layout(folder: Path) -> Layout:
    """The layout of an encoder, whichever of the formats it is in; a plain backbone has no prompts and no layers more.

    Raises:
        CheckpointError: when it is in none of them, or a file cannot be read.
    """
    config = _json(folder / "config.json")
    architecture = str((config.get("architectures") or [""])[0])
    if (folder / MODULES).is_file():
        return _of_modules(folder)
    if architecture == "HF_ColBERT":
        return _of_colbert(folder)
    if _is_lightning(config):
        return _of_lightning(folder, config)
    return Layout(similarity="maxsim")


def sparse_modules(folder: Path, side: str = "document") -> list[tuple[str, Path]]:
    """(kind, folder) of the modules by which a SPLADE model reads "query" or "document" texts, in order.

    A plain masked language model is one that pools by itself. Where sentence-transformers' `Router` sends queries and
    documents different ways, the side decides.

    Raises:
        CheckpointError: when a file cannot be read, or names no modules of this side.
    """
    listed = [(_class_of(module), folder / str(module.get("path", ""))) for module in _modules(folder)]
    if [kind for kind, _ in listed] != ["Router"]:
        return listed or [("MaskedModel", folder)]
    root = listed[0][1]
    said = _json(root / ROUTER)
    try:
        names = [str(name) for name in said["structure"][side]]
        kinds = [str(said["types"][name]).rpartition(".")[2] for name in names]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{root / ROUTER} does not say what reads a {side}: {error} is missing") from error
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in names):
        raise CheckpointError(f"{root / ROUTER}: {', '.join(names)} lie outside the checkpoint")
    return [(kind, root / name) for kind, name in zip(kinds, names, strict=True)]


def read_sparse_layout(folder: Path, side: str = "document") -> Layout:
    """The layout of a SPLADE model: sentence-transformers' `SparseEncoder`, or a plain masked language model.

    Args:
        folder: of the checkpoint.
        side: "query" or "document", where a `Router` reads them apart. Queries may be read by a weight for each token
            (`SparseStaticEmbedding`), and are not pooled then.

    Raises:
        CheckpointError: when it is made of other modules, or a file cannot be read.
    """
    modules = sparse_modules(folder, side)
    names = [name for name, _ in modules]
    if names == ["MaskedModel"]:
        return Layout(pooling=("max",), normalised=False, similarity="dot")
    looked_up = side == "query" and names == ["SparseStaticEmbedding"]
    if not looked_up and names not in (["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"]):
        raise CheckpointError(f"{folder} is made of {', '.join(names)}; SPLADE is a Transformer and a SpladePooling")
    reading = _reading(modules[0][1])
    prompts = _prompts(_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {})
    return Layout(
        query_prompt=prompts["query"],
        document_prompt=prompts["document"],
        query_tokens=reading.get("max_seq_length"),
        document_tokens=reading.get("max_seq_length"),
        pooling=() if looked_up else _sparse_pooling(_json(modules[1][1] / "config.json"), folder),
        normalised=False,
        similarity="dot",
        lower_case=bool(reading.get("do_lower_case", False)),
        files=_files(folder, [path for _, path in modules[not looked_up :]]),
    )


def _sparse_pooling(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    pooling, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if (pooling, activation) == ("max", "log1p_relu"):
        return ("max", "log1p")
    if pooling not in ("max", "sum") or activation != "relu":
        raise CheckpointError(
            f"{folder} pools by {pooling!r} of {activation!r}, which is not known here; max and sum of 'relu' are, and "
            "max of 'log1p_relu'"
        )
    return (pooling,)


def check_modules(folder: Path) -> None:
    """See that the layers that stand behind a model of sentence-transformers are there.

    Raises:
        CheckpointError: naming what is missing.
    """
    for module in _modules(folder):
        path = folder / str(module.get("path", ""))
        if _class_of(module) in ("Pooling", "Dense", "MultiVectorMask") and not (path / "config.json").is_file():
            raise CheckpointError(f"{folder} lacks {module['path']}, which its {MODULES} names")


def _of_modules(folder: Path) -> Layout:
    """sentence-transformers, and PyLate, whose older files leave out what it did in code."""
    modules = [(_class_of(module), folder / str(module.get("path", ""))) for module in _modules(folder)]
    _check_modules(folder, modules)
    settings = _json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    reading = _reading(folder)
    pooled = [_json(path / "config.json") for name, path in modules if name == "Pooling"]
    masks = [_json(path / "config.json") for name, path in modules if name == "MultiVectorMask"]
    old_pylate = not pooled and not masks
    prompts = _prompts(settings)
    skipped, tasks = _skipped(settings, masks, old_pylate)
    only = masks[0].get("keep_only_token_ids") if masks else None
    return Layout(
        query_prompt=prompts["query"],
        document_prompt=prompts["document"],
        markers=tuple(settings[key] for key in ("query_prefix", "document_prefix") if settings.get(key)),
        query_tokens=reading.get("query_length") or settings.get("query_length") or reading.get("max_seq_length"),
        document_tokens=reading.get("document_length")
        or settings.get("document_length")
        or reading.get("max_seq_length"),
        expansion=_expansion(settings, reading),
        skipped=skipped if "document" in tasks else (),
        skipped_of_queries=skipped if "query" in tasks else (),
        kept_only=tuple(only or ()),
        projections=tuple(_dense(path) for name, path in modules if name == "Dense"),
        pooling=_pooling(pooled[0]) if pooled else (),
        prompt_pooled=bool(pooled[0].get("include_prompt", True)) if pooled else True,
        normalised=old_pylate or any(name == "Normalize" for name, _ in modules),
        similarity=settings.get("similarity_fn_name") or ("cosine" if pooled else "maxsim"),
        lower_case=bool(reading.get("do_lower_case", False)),
        files=_files(folder, [path for name, path in modules if name != "Transformer"]),
    )


def _check_modules(folder: Path, modules: list[tuple[str, Path]]) -> None:
    for name, path in modules:
        if name not in KNOWN_MODULES:
            raise CheckpointError(f"{folder} has a module {name}, which is not known here")
        if name == "Transformer" and path.resolve() != folder.resolve():
            raise CheckpointError(
                f"{folder}: its weights lie in {path.name}/, as old versions of sentence-transformers put them; save "
                "it again with a new one"
            )


def _reading(folder: Path) -> dict[str, Any]:
    """How the tokenizer is used."""
    path = folder / "sentence_bert_config.json"
    return _json(path) if path.is_file() else {}


def _prompts(settings: Mapping[str, Any]) -> dict[str, str]:
    """What is put in front of queries and documents: PyLate's marker before the prompt, where there are both."""
    named = {key: value or "" for key, value in (settings.get("prompts") or {}).items()}
    usual = named.get(settings.get("default_prompt_name") or "", "")
    of_documents = next((named[key] for key in ("document", "passage", "corpus") if key in named), usual)
    found = {"query": named.get("query", usual), "document": of_documents}
    for role in found:
        if (marker := settings.get(f"{role}_prefix")) is not None:
            found[role] = (marker or "") + found[role].removeprefix(marker or "")
    return found


def _skipped(
    settings: Mapping[str, Any], masks: list[dict[str, Any]], old_pylate: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words whose tokens do not count, and on which sides; old PyLate left out punctuation where it said nothing."""
    if masks:
        tasks = masks[0].get("skiplist_tasks") or ["document"]
        return tuple(masks[0].get("skiplist_words") or ()), (tasks,) if isinstance(tasks, str) else tuple(tasks)
    words = settings.get("skiplist_words")
    usual = PUNCTUATION if old_pylate else ()
    return usual if words is None else tuple(words), ("document",)


def _expansion(settings: Mapping[str, Any], reading: Mapping[str, Any]) -> Expansion | None:
    for said in (reading, settings):
        if "query_expansion" in said:
            value = said["query_expansion"]
            if value is None:
                return None
            cut = value.get("strategy") == "fixed"
            return Expansion(int(value["length"]), bool(value.get("attend")), value.get("token") or "", cut)
    pylate = ("query_length", "do_query_expansion", "attend_to_expansion_tokens", "query_prefix", "skiplist_words")
    if not any(key in settings for key in pylate) or settings.get("do_query_expansion") is False:
        return None
    seen = settings.get("attend_to_expansion_tokens", settings.get("attend_to_mask_tokens"))
    return Expansion(int(settings.get("query_length") or 32), bool(seen))


def _dense(path: Path) -> Projection:
    config = _json(path / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    return Projection(path, activation=activation, residual=bool(config.get("use_residual", False)))


def _pooling(config: Mapping[str, Any]) -> tuple[str, ...]:
    """One name or several, as new files say it; switches, as old ones do."""
    mode = config.get("pooling_mode")
    if mode is not None:
        return (mode,) if isinstance(mode, str) else tuple(mode)
    switches = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "lasttoken": "lasttoken"}
    switches |= {"mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean_tokens": "weightedmean"}
    return tuple(name for key, name in switches.items() if config.get(f"pooling_mode_{key}")) or ("mean",)


def _of_colbert(folder: Path) -> Layout:
    """The authors' own layout (https://github.com/stanford-futuredata/ColBERT): one matrix beside the backbone's."""
    path = folder / METADATA
    said = _json(path) if path.is_file() else {}
    query, document = (said.get(key) or usual for key, usual in _MARKERS.items())
    return Layout(
        query_prompt=f"{query} ",
        document_prompt=f"{document} ",
        markers=(query, document),
        document_tokens=said.get("doc_maxlen"),
        expansion=Expansion(said.get("query_maxlen") or 32, bool(said.get("attend_to_mask_tokens"))),
        skipped=PUNCTUATION if said.get("mask_punctuation", True) else (),
        projections=(Projection(folder),),
        files=(path,) if path.is_file() else (),
    )


_MARKERS = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]"}


def _of_lightning(folder: Path, config: Mapping[str, Any]) -> Layout:
    """lightning-ir's "col" models (https://github.com/webis-de/lightning-ir): all of it stands in config.json."""
    for key, only in (("query_aggregation_function", ("sum", "mean")), ("doc_aggregation_function", ("max",))):
        if (said := config.get(key, only[0])) not in only:
            raise CheckpointError(f"{folder}: {key} is {said!r}, and only {' and '.join(only)} can be computed here")
    if config.get("doc_expansion"):
        raise CheckpointError(f"{folder} expands documents by [MASK], which is not known here")
    markers = ("[QUE]", "[DOC]") if config.get("add_marker_tokens") else ()
    length = config.get("query_length", 32)
    expands = bool(config.get("query_expansion"))
    return Layout(
        query_prompt=f"{markers[0]} " if markers else "",
        document_prompt=f"{markers[1]} " if markers else "",
        markers=markers,
        query_tokens=length,
        document_tokens=config.get("doc_length", 512),
        expansion=Expansion(length, bool(config.get("attend_to_query_expanded_tokens"))) if expands else None,
        skipped=_ignored(config.get("doc_mask_scoring_tokens")),
        skipped_of_queries=_ignored(config.get("query_mask_scoring_tokens")),
        projections=(Projection(folder, prefix="projection."),),
        normalised=config.get("normalization_strategy") == "l2" or config.get("similarity_function") == "cosine",
        similarity="meanmaxsim" if config.get("query_aggregation_function") == "mean" else "maxsim",
    )


def _is_lightning(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == "col" and "backbone_model_type" in config


def _ignored(said: Any) -> tuple[str, ...]:
    return PUNCTUATION if said == "punctuation" else tuple(said or ())


def _files(folder: Path, modules: list[Path]) -> tuple[Path, ...]:
    """What decides answers beside config, tokenizer and weights of the backbone."""
    beside = [folder / name for name in (MODULES, SETTINGS, ROUTER, "sentence_bert_config.json")]
    inside = [path for module in modules for path in sorted(module.glob("*")) if module != folder]
    return tuple(path for path in [*beside, *inside] if path.is_file())


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / MODULES
    return list(_json(path, list)) if path.is_file() else []


def _class_of(module: Mapping[str, Any]) -> str:
    """The last part of a module's type: old and new versions of a library keep its classes in other places."""
    return str(module.get("type", "")).rpartition(".")[2]


def _json(path: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{path} is no JSON {'object' if kind is dict else 'list'}")
    return value
