"""Train a small SPLADE on SciFact's train split, and show what it retrieves before and after. Minutes on two cores.

python scripts/train_splade_on_scifact.py --data FOLDER --work splade-work     # BEIR's SciFact, with qrels/train.tsv

The body is all-MiniLM-L6-v2; the head of a masked model is put on it, its transform nearly the identity and its
vocabulary the body's word embeddings. sentence-transformers' own SparseEncoderTrainer trains it: claims against the
abstracts that are relevant to them, the other abstracts of the batch as negatives, and the FLOPS regulariser, whose
weight grows with the square of the step (Formal et al., 2021, https://arxiv.org/abs/2109.10086). The same command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rerank import Dataset, Document
from rerank.checkpoints import fetch
from rerank.evaluate import evaluate
from rerank.significance import interval
from retrievers.splade import Splade

BODY = "sentence-transformers/all-MiniLM-L6-v2"
TERMS = 256
"""Weights that a document keeps, the greatest: before the training nearly all of them are above 0."""


def start(folder: Path, data: Path, tokens: int, seed: int) -> None:
    """The model before the training, as a SparseEncoder."""
    import torch
    import transformers
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling, Transformer

    transformers.set_seed(seed)
    body = fetch(BODY)
    model = transformers.AutoModelForMaskedLM.from_pretrained(body)
    tokenizer = transformers.AutoTokenizer.from_pretrained(body)
    head = model.cls.predictions
    with torch.no_grad():
        torch.nn.init.eye_(head.transform.dense.weight)
        head.transform.dense.bias.fill_(3.0)  # there GELU is nearly straight, and the layer norm takes it away again
        head.transform.LayerNorm.weight.fill_(1.0)
        head.transform.LayerNorm.bias.zero_()
        head.bias.zero_()
        least, most = _spread(model, tokenizer, pairs_of(data)["document"][:32], tokens)
        head.transform.LayerNorm.weight.fill_(2 / (most - least))
        head.bias.fill_(-2 * least / (most - least))
    masked = folder.with_name(f"{folder.name}-masked")
    model.save_pretrained(masked)
    tokenizer.save_pretrained(masked)
    reads = Transformer(str(masked), transformer_task="fill-mask", max_seq_length=tokens)
    SparseEncoder(modules=[reads, SpladePooling("max")]).save_pretrained(str(folder))


def _spread(model: Any, tokenizer: Any, texts: list[str], tokens: int) -> tuple[float, float]:
    """What a hundredth of a text's logits exceed, and the greatest of all: they are to weigh 0, and log 3."""
    read = tokenizer(texts, padding=True, truncation=True, max_length=tokens, return_tensors="pt")
    found = model.eval()(**read).logits.masked_fill(~read["attention_mask"].bool()[..., None], -1e4).amax(1)
    return found.quantile(0.99, -1).mean().item(), found.amax(-1).mean().item()


def pairs_of(data: Path) -> Any:
    """(claim, relevant abstract) of the train split."""
    from datasets import Dataset as Arrow

    train = Dataset.load(data, "train")
    relevant = {doc_id for judged in train.qrels.values() for doc_id, value in judged.items() if value > 0}
    documents = train.look_up(relevant)
    rows = [
        {"query": query.text, "document": documents[doc_id].full_text}
        for query in train.queries
        for doc_id, value in train.qrels[query.query_id].items()
        if value > 0
    ]
    return Arrow.from_list(rows)


def train(begin: Path, work: Path, asked: Any) -> Path:
    """The trained model; what was saved of an earlier run is gone on from."""
    from sentence_transformers import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss

    model = SparseEncoder(str(begin))
    loss = SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=asked.document_flops,
        query_regularizer_weight=asked.query_flops,
    )
    arguments = SparseEncoderTrainingArguments(
        output_dir=str(work / "checkpoints"),
        num_train_epochs=asked.epochs,
        max_steps=asked.max_steps,
        per_device_train_batch_size=asked.batch,
        learning_rate=asked.learning_rate,
        warmup_steps=0.1,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        save_steps=asked.save_steps,
        save_total_limit=1,
        logging_steps=10,
        seed=asked.seed,
        use_cpu=asked.cpu,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SparseEncoderTrainer(model=model, args=arguments, train_dataset=pairs_of(asked.data), loss=loss)
    saved = any((work / "checkpoints").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=saved)
    model.save_pretrained(str(work / "trained"))
    return work / "trained"


def found(name: str, model: Path, asked: Any) -> list[dict[str, Any]]:
    """What a model retrieves for the test split: exactly, and through Seismic where that is installed."""
    dataset, folder = Dataset.load(asked.data), asked.work / f"index-of-{model.name}-{asked.documents}"
    given: dict[str, Any] = {"model": str(model), "top_terms": TERMS, "max_tokens": asked.tokens}
    if find_spec("seismic"):
        given["search"] = "seismic"
    if not folder.exists():
        Splade.build(documents_of(dataset, asked.documents), folder, **given)
    index = Splade.open(folder, exact=True)
    results = [_evaluated(name, index, dataset)]
    if "search" in given:
        results.append(_evaluated(f"{name}, through Seismic", Splade.open(folder), dataset))
    return results


def documents_of(dataset: Dataset, most: int) -> list[Document]:
    """All documents; or the judged ones and the first others, so many in all."""
    documents = list(dataset.documents())
    judged = {doc_id for judgments in dataset.qrels.values() for doc_id in judgments}
    first = sorted(documents, key=lambda document: document.doc_id not in judged)
    return first[: most or None]


def _evaluated(name: str, index: Splade, dataset: Dataset) -> dict[str, Any]:
    rankings = index.retrieve(dataset.queries, 100)
    measured = evaluate(dataset.qrels, {each.query.query_id: each for each in rankings}, ["nDCG@10", "R@100"])
    within = interval(measured.values("nDCG@10").values())
    return {
        "system": name,
        "nDCG@10": measured.means["nDCG@10"],
        "interval": [within.low, within.high],
        "R@100": measured.means["R@100"],
        "terms of a document": index.manifest.notes["weights"] / len(index),
        "documents": {each.query.query_id: [one.doc_id for one in each.documents] for each in rankings},
    }


def overlap(exact: dict[str, Any], other: dict[str, Any]) -> float:
    """The share of the exact search's 100 documents that another one finds too."""
    pairs = [(set(documents), set(other["documents"][query_id])) for query_id, documents in exact["documents"].items()]
    return sum(len(one & two) / len(one) for one, two in pairs if one) / len(pairs)


def show(result: dict[str, Any]) -> None:
    """A line of the table."""
    low, high = result["interval"]
    print(
        f"{result['system']}: nDCG@10 {result['nDCG@10']:.4f} ({low:.4f} to {high:.4f}), R@100 {result['R@100']:.4f}, "
        f"{result['terms of a document']:.0f} terms a document",
        flush=True,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="BEIR's folder of SciFact, with its train split")
    parser.add_argument("--work", type=Path, default=Path("splade-work"), help="where everything is written")
    parser.add_argument("--tokens", type=int, default=64, help="of a text, at the most")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--document-flops", type=float, default=0.03, help="λ of documents, at its greatest")
    parser.add_argument("--query-flops", type=float, default=0.03, help="λ of queries")
    parser.add_argument("--save-steps", type=int, default=20)
    parser.add_argument("--max-steps", type=int, default=-1, help="end after so many steps; -1: all epochs")
    parser.add_argument("--documents", type=int, default=0, help="retrieve from so many, the judged among them; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    print(f"seed {asked.seed}, {asked.epochs} epochs of batches of {asked.batch}", flush=True)
    begin, trained = asked.work / "start", asked.work / "trained"
    if not (begin / "modules.json").exists():
        start(begin, asked.data, asked.tokens, asked.seed)
    if not (trained / "modules.json").exists():
        train(begin, asked.work, asked)
    results: list[dict[str, Any]] = []
    for name, model in (("before the training", begin), ("after it", trained)):
        results += (measured := found(name, model, asked))
        for result in measured:
            show(result)
        if len(measured) > 1:
            print(f"Seismic finds {overlap(*measured):.4f} of the exact search's 100 documents", flush=True)
    kept = [{key: value for key, value in result.items() if key != "documents"} for result in results]
    (asked.work / "results.json").write_text(json.dumps({"seed": asked.seed, "results": kept}, indent=2) + "\n")


if __name__ == "__main__":
    main()
