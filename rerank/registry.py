"""Names to things: "bm25" to the class that is it, loaded when first asked for.

The tables are strings, so that listing costs no import and `rerank` can reach its neighbours `retrievers` and
`training` without importing them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module, util
from pathlib import Path
from typing import Any

from rerank.errors import MissingExtra, UnknownName

__all__ = ["TABLES", "clash", "did_you_mean", "extra_for", "load", "names", "unknown"]

TABLES: Mapping[str, Mapping[str, str]] = {
    "algorithm": {
        "all-pairs": "rerank.algorithms.pairs:all_pairs",
        "answer-scent": "rerank.algorithms.scent:answer_scent",
        "bert-qe": "rerank.algorithms.chunks:bert_qe",
        "blocks": "rerank.algorithms.blocks:blocks",
        "budgeted-pairs": "rerank.algorithms.budgeted:budgeted_pairs",
        "exclusion": "rerank.algorithms.groups:exclusion",
        "full-list": "rerank.algorithms.windows:full_list",
        "gar": "rerank.algorithms.adaptive:gar",
        "group-scores": "rerank.algorithms.groups:group_scores",
        "heapsort": "rerank.algorithms.sorting:heapsort",
        "ladr": "rerank.algorithms.adaptive:ladr",
        "ladr-adaptive": "rerank.algorithms.adaptive:ladr_adaptive",
        "mergesort": "rerank.algorithms.mergesort:mergesort",
        "pointwise": "rerank.algorithms.pointwise:pointwise",
        "quicksort": "rerank.algorithms.quicksort:quicksort",
        "setwise-heapsort": "rerank.algorithms.setwise:setwise_heapsort",
        "setwise-sliding": "rerank.algorithms.setwise:setwise_sliding",
        "sliding-k": "rerank.algorithms.sorting:sliding_k",
        "sliding-windows": "rerank.algorithms.windows:sliding_windows",
        "triage": "rerank.algorithms.budgeted:triage",
        "top-down": "rerank.algorithms.topdown:top_down",
        "tournament": "rerank.algorithms.tournament:tournament",
        "tournament-points": "rerank.algorithms.tournament:points",
    },
    "graph": {
        "corpus": "retrievers.graph:CorpusGraph",
    },
    "judge": {
        "answer-scent": "rerank.judges.answer_scent:AnswerScent",
        "attention": "rerank.judges.attention:Attention",
        "bi-encoder": "rerank.judges.bi_encoder:BiEncoder",
        "choice": "rerank.judges.choice:Choice",
        "cross-encoder": "rerank.judges.cross_encoder:CrossEncoder",
        "duo-encoder": "rerank.judges.duo_encoder:DuoEncoder",
        "first-token": "rerank.judges.first_token:FirstToken",
        "fusion-attention": "rerank.judges.fusion_attention:FusionAttention",
        "fusion-in-decoder": "rerank.judges.fusion_in_decoder:FusionInDecoder",
        "fusion-in-t5": "rerank.judges.fusion_in_t5:FusionInT5",
        "hosted": "rerank.judges.hosted:Hosted",
        "late-interaction": "rerank.judges.late_interaction:LateInteraction",
        "layer-wise": "rerank.judges.layer_wise:LayerWise",
        "likelihood": "rerank.judges.likelihood:Likelihood",
        "listwise-embedding": "rerank.judges.listwise_embedding:ListwiseEmbedding",
        "oracle": "rerank.judges.fake:Oracle",
        "passage-embedding": "rerank.judges.passage_embedding:PassageEmbedding",
        "permutation": "rerank.judges.permutation:Permutation",
        "pooled-passage": "rerank.judges.pooled_passage:PooledPassage",
        "preference": "rerank.judges.preference:Preference",
        "ratings": "rerank.judges.ratings:Ratings",
        "reasoning": "rerank.judges.reasoning:Reasoning",
        "remote": "rerank.judges.remote:Remote",
        "score-head": "rerank.judges.score_head:ScoreHead",
        "set-encoder": "rerank.judges.set_encoder:SetEncoder",
        "split": "rerank.judges.split:Split",
        "target-token": "rerank.judges.target_token:TargetToken",
        "term-weights": "rerank.judges.term_weights:TermWeights",
        "uncertain-cross-encoder": "rerank.judges.uncertain:UncertainCrossEncoder",
        "verdict": "rerank.judges.verdict:Verdict",
        "written-score": "rerank.judges.written_score:WrittenScore",
        "writer": "rerank.judges.writer:Writer",
    },
    "kernel": {
        "add_norm": "rerank.kernels.add_norm:add_norm",
        "attention_mass": "rerank.kernels.attention_mass:attention_mass",
        "disentangled_attention": "rerank.kernels.disentangled_attention:disentangled_attention",
        "first_token_attention": "rerank.kernels.varlen_attention:first_token_attention",
        "first_token_set_attention": "rerank.kernels.set_attention:first_token_set_attention",
        "lambdarank": "rerank.kernels.list_losses:lambdarank",
        "listmle": "rerank.kernels.list_losses:listmle",
        "maxsim": "rerank.kernels.maxsim:maxsim",
        "maxsim_top": "rerank.kernels.maxsim:maxsim_top",
        "prefix_attention": "rerank.kernels.prefix_attention:prefix_attention",
        "ranknet": "rerank.kernels.list_losses:ranknet",
        "set_attention": "rerank.kernels.set_attention:set_attention",
        "splade_pool": "rerank.kernels.splade_pool:splade_pool",
        "target_logits": "rerank.kernels.target_logits:target_logits",
        "token_log_probs": "rerank.kernels.target_logits:token_log_probs",
        "varlen_attention": "rerank.kernels.varlen_attention:varlen_attention",
    },
    "retriever": {
        "bm25": "retrievers.bm25:BM25",
        "dense": "retrievers.dense:Dense",
        "doc2query": "retrievers.doc2query:Doc2Query",
        "expansion": "retrievers.expansion:Expansion",
        "hybrid": "retrievers.hybrid:Hybrid",
        "late-interaction": "retrievers.late_interaction:LateInteraction",
        "lucene": "retrievers.lucene:Lucene",
        "saved": "retrievers.saved:SavedRun",
        "splade": "retrievers.splade:Splade",
    },
    "step": {
        "feedback": "rerank.rerankers.feedback:Feedback",
        "mmr": "rerank.rerankers.diversity:MMR",
        "recency": "rerank.rerankers.diversity:Recency",
    },
    "stage": {
        "reranker": "rerank.rerankers.reranker:Reranker",
    },
    "training": {
        "best-scored": "training.teacher:best_scored",
        "formats": "training.examples.formats:FORMATS",
        "check": "training.checks:check_recipe",
        "indexed-collection": "training.examples.texts:Collection",
        "label": "training.teacher:label",
        "mine": "training.mining:mine",
        "mining-rules": "training.mining:Rules",
        "pair-sampler": "training.teacher:PairSampler",
        "read-examples": "training.examples.formats:read_examples",
        "recipe": "training.recipe:find",
        "recipes": "training.recipe:names",
        "retrieved": "training.mining:retrieved",
        "sample": "training.mining:sample",
        "scored-by": "training.teacher:scored_by",
        "train": "training.run:run_training",
        "write-queries": "training.teacher:write_queries",
        "writing": "training.teacher:writing",
        "write-examples": "training.examples.formats:write_examples",
    },
}

EXTRAS: Mapping[str, str] = {
    "bitsandbytes": "quantize",
    "datasets": "train",
    "faiss": "dense",
    "fastapi": "serve",
    "gguf": "gguf",
    "haystack": "haystack",
    "langchain_core": "langchain",
    "llama_index": "llamaindex",
    "matplotlib": "report",
    "mteb": "mteb",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "peft": "lora",
    "pyarrow": "bright",
    "pyserini": "lucene",
    "pyterrier": "pyterrier",
    "ray": "ray",
    "ray.serve": "replicas",
    "seismic": "seismic",
    "trl": "train",
}
"""Which extra brings which package."""


MOST_LISTED = 30
"""Names that fit into an error."""


def names(kind: str) -> list[str]:
    """The names registered for a kind, sorted."""
    return sorted(TABLES[kind])


def load(kind: str, name: str) -> Any:
    """The thing that a name stands for.

    Raises:
        UnknownName: when nothing of that kind has the name.
        MissingExtra: when its packages are not installed, or another project's package stands in their place.
    """
    if name not in TABLES[kind]:
        raise unknown(kind, name, TABLES[kind])
    module_name, _, attribute = TABLES[kind][name].partition(":")
    if (where := clash(module_name.partition(".")[0])) is not None:
        raise MissingExtra(
            f"{kind} {name!r} lives in our package {module_name.partition('.')[0]!r}, but Python finds another one at "
            f"{where}; run 'rerank doctor', then remove or rename that one"
        )
    try:
        return getattr(import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if error.name == module_name.partition(".")[0]:
            raise MissingExtra(
                f"{kind} {name!r} lives in our package {package!r}, which Python does not find; "
                "install rerank-toolkit again"
            ) from error
        if package not in EXTRAS:
            raise
        raise extra_for(f"{kind} {name!r}", package) from error


def extra_for(what: str, package: str) -> MissingExtra:
    """The error for a feature whose package is not installed."""
    extra = EXTRAS[package]
    return MissingExtra(f"{what} needs the {extra!r} extra: pip install 'rerank-toolkit[{extra}]'")


def clash(package: str) -> Path | None:
    """Where Python finds a package of this name, when it is not ours; None when it is ours.

    `retrievers` and `training` are names that other projects use too; ours lie beside `rerank`.
    """
    ours = Path(__file__).resolve().parent.parent / package
    spec = util.find_spec(package)
    if spec is None:
        return None
    found = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
    return None if ours in found else found[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean …?' when a known name is near, else a list of what there is, or where it stands."""
    known = sorted(known)
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {folded[near[0]]!r}?"
    if len(known) > MOST_LISTED:
        return f"; 'rerank list' names the {len(known)} that there are"
    return f"; there is {', '.join(map(repr, known))}" if known else "; there are none"


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that nothing of its kind has."""
    return UnknownName(f"no {kind} is called {name!r}{did_you_mean(name, known)}")
