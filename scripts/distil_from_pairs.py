"""Two percent of a noisy pairwise teacher's pairs, against all of them: what a small student learns from each.

python scripts/distil_from_pairs.py --dataset path/to/trec-dl19 --run path/to/trec-dl19/runs/bm25.trec

The teacher is an oracle that compares two documents by their judgments and errs: two documents one grade apart are
told the wrong way round in a fifth of its looks. It labels pairs of the best 50 candidates of every query through
`training.teacher.label`, in both orders, as pairwise ranking prompting does. The student scores a document by a linear
layer over the products of query and document embeddings (all-MiniLM-L6-v2) and the first stage's score; it is trained
with the pairwise logistic loss on four fifths of the queries and measured on the rest, five folds. Prints nDCG@10 of
the held-out queries for every way of choosing pairs, and as a share of what all pairs give; seeds 0, 1, 2.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from rerank import Dataset
from rerank.evaluate import evaluate
from rerank.io import read_run
from rerank.judges.fake import Oracle
from rerank.rerankers.reranker import Reranker
from rerank.types import Qrels, Ranking
from training.examples import Example
from training.teacher import PairSampler, label

ERRS, FOLDS, SEEDS = 0.2, 5, (0, 1, 2)
WAYS = {"all": PairSampler("all"), **{name: PairSampler(name, 0.02) for name in ("uniform", "rank-aware")}}


def examples_of(rankings: Sequence[Ranking]) -> list[Example]:
    """The candidates of every query, best first, without labels."""
    return [
        Example(
            one.query.text,
            tuple(document.full_text for document in one.documents),
            query_id=one.query.query_id,
            doc_ids=tuple(document.doc_id for document in one.documents),
        )
        for one in rankings
    ]


def trained(features: Mapping[str, Tensor], examples: Sequence[Example], steps: int = 200) -> Tensor:
    """Weights of a linear student, by the logistic loss over the teacher's pairs; zero at the start, so no seed."""
    weights = torch.zeros(next(iter(features.values())).shape[1], requires_grad=True)
    firsts, seconds, wins = _columns(features, examples)
    gaps = firsts - seconds
    optimiser = torch.optim.Adam([weights], lr=0.02, weight_decay=1e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(gaps @ weights, wins).backward()
        optimiser.step()
    return weights.detach()


def held_out(features: Mapping[str, Tensor], examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """query_id -> doc_id -> the score of a student that has not seen the query."""
    scores: dict[str, dict[str, float]] = {}
    for fold in range(FOLDS):
        seen = [one for number, one in enumerate(examples) if number % FOLDS != fold]
        weights = trained(features, seen)
        for one in examples[fold::FOLDS]:
            found = (features[one.query_id] @ weights).tolist()
            scores[one.query_id] = dict(sorted(zip(one.doc_ids or (), found, strict=True), key=lambda pair: -pair[1]))
    return scores


def quality(features: Mapping[str, Tensor], examples: Sequence[Example], qrels: Qrels, seed: int) -> dict[str, float]:
    """nDCG@10 of the held-out queries for each way of choosing pairs, with the teacher's noise of this seed."""
    teacher = Reranker(judge=Oracle.erring(qrels, ERRS, seed=seed))
    found = {}
    for name, sampler in WAYS.items():
        drawn = PairSampler(sampler.strategy, sampler.fraction, seed)
        labelled = list(label(examples, teacher, "pairs", sampler=drawn))
        found[name] = evaluate(qrels, held_out(features, labelled), ["nDCG@10"]).means["nDCG@10"]
    return found


def embedded(rankings: Sequence[Ranking]) -> dict[str, Tensor]:
    """query_id -> [docs, dim + 1]: products of the two embeddings, and the first stage's score."""
    from sentence_transformers import SentenceTransformer

    from rerank.checkpoints import fetch

    model = SentenceTransformer(str(fetch("all-MiniLM-L6-v2")), device="cpu")
    model.max_seq_length = 128
    features = {}
    for one in rankings:
        texts = [one.query.text, *(document.full_text for document in one.documents)]
        vectors = model.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
        scores = torch.tensor([candidate.score or 0.0 for candidate in one])
        scaled = (scores - scores.mean()) / (scores.std() + 1e-9)
        features[one.query.query_id] = torch.cat([vectors[0] * vectors[1:] * 20, scaled[:, None]], dim=1)
    return features


def main() -> None:
    """Embed, label, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--cutoff", type=int, default=50)
    asked = parser.parse_args()
    dataset = Dataset.load(asked.dataset)
    scores = {query_id: found for query_id, found in read_run(asked.run).items() if query_id in dataset.qrels}
    rankings = dataset.rankings(scores, asked.cutoff)
    features, examples = embedded(rankings), examples_of(rankings)
    first = evaluate(dataset.qrels, {one.query.query_id: one for one in rankings}, ["nDCG@10"])
    found = [quality(features, examples, dataset.qrels, seed) for seed in SEEDS]
    means = {name: round(fmean(one[name] for one in found), 4) for name in WAYS}
    shares = {name: round(means[name] / means["all"], 4) for name in WAYS}
    told = {
        "queries": len(examples),
        "first stage": round(first.means["nDCG@10"], 4),
        "nDCG@10": means,
        "share": shares,
    }
    pairs = {name: len(sampler.sample(asked.cutoff)) for name, sampler in WAYS.items()}
    print(json.dumps(told | {"by seed": found, "pairs of a query": pairs}, indent=1))


def _columns(features: Mapping[str, Tensor], examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Features of the first and the second document of every pair, and whether the first wins."""
    rows = [(features[one.query_id], one.pairs or ()) for one in examples]
    firsts = torch.cat([table[[pair[0] for pair in pairs]] for table, pairs in rows])
    seconds = torch.cat([table[[pair[1] for pair in pairs]] for table, pairs in rows])
    return firsts, seconds, torch.tensor([pair[2] for _, pairs in rows for pair in pairs])


if __name__ == "__main__":
    main()
