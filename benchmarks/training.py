"""TR1, TR2: steps of training, beside sentence-transformers' trainer with the same student, data, batch and loss.

A work is lists in the order in which they are trained on. A pass is one epoch over them, from the same weights with a
new optimiser; reading, tokenising, clipping and the optimiser are within it. Its scores are the losses of the steps.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import data, shapes
from benchmarks.contest import Absent, Contest, Outcome, Peer, Scores, Setting, workload

__all__: list[str] = []

BODY, LAYERS, TOKENS, QUERY_TOKENS = "all-MiniLM-L6-v2", 3, 256, 10
RATE, CLIP = 1e-4, 1.0
SCIFACT = Path(__file__).resolve().parents[2] / "shared" / "data" / "scifact"
"""Where developers keep it, beside the checkout."""

Work = Sequence[Any]


@dataclass(frozen=True)
class Side:
    """What both sides are given: the student's folder, where they may write, and lists in a batch."""

    student: Path
    folder: Path
    lists: int

    def arguments(self, kind: Any = None, **more: Any) -> Any:
        """Of transformers' Trainer: one epoch, every loss logged, nothing saved."""
        import transformers

        return (kind or transformers.TrainingArguments)(
            output_dir=str(self.folder),
            num_train_epochs=1,
            per_device_train_batch_size=self.lists,
            learning_rate=RATE,
            max_grad_norm=CLIP,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
            **more,
        )


@workload("TR1", "cpu", "training: 3 layers of MiniLM-L6, MarginMSE, 16 lists of 2 documents a step, float32")
def tr1(setting: Setting) -> Iterator[Contest]:
    still, usual = (_side(setting, dropout) for dropout in (0.0, None))
    mixed = _mixed(usual.student, setting.pick(48, 4), setting.pick(1, 4))
    yield _contest("marco, no dropout", mixed, still, exact=True)
    yield _contest("marco", mixed, usual, target=1.5)


@workload("TR2", "cpu", "the same over SciFact's own texts, cut at 256 tokens")
def tr2(setting: Setting) -> Iterator[Contest]:
    lists = _scifact(setting.pick(32, 4))
    yield _contest("SciFact cut at 256", lists, _side(setting, None))


def _contest(name: str, work: Work, side: Side, *, exact: bool = False, target: float | None = None) -> Contest:
    """Where nothing is drawn, every loss is held against a plain loop's; with dropout no two runs have the same."""
    package = "sentence-transformers"
    peer = Peer(package, partial(_theirs, side), package, (side.lists,), target=target, approximate=not exact)
    tolerance = 1e-4 if exact else None
    return Contest(name, work, _ours(side), partial(_plain, side), [peer], tolerance, checked=2 * side.lists)


def _ours(side: Side) -> Callable[[Work], Outcome]:
    """The trainer that `rerank train` uses."""
    from training.lists import Lists
    from training.objective import Objective
    from training.recipe import Schedule
    from training.students import CrossEncoder
    from training.trainer import ListTrainer

    class InOrder(ListTrainer):
        """Lists in the order of the work."""

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    student = CrossEncoder(side.student, max_tokens=TOKENS)
    start = {name: value.clone() for name, value in student.state_dict().items()}

    def run(work: Work) -> Outcome:
        student.load_state_dict(start)
        arguments = side.arguments(optim=Schedule().optimizer)
        losses = _losses(InOrder(student, arguments, Lists(work), Objective("margin-mse")))
        return Outcome(losses, {"steps": len(losses)}, {"execution": student.execution})

    return run


def _theirs(side: Side) -> Callable[[Work, int], Scores]:
    """`CrossEncoderTrainer` with its own `MarginMSELoss`, as it comes."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import MarginMSELoss

    model = CrossEncoder(str(side.student), max_length=TOKENS, device="cpu", num_labels=1)
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
        return DefaultBatchSampler(torch.utils.data.SequentialSampler(dataset), batch_size, drop_last)

    def run(work: Work, batch_size: int) -> Scores:
        model.load_state_dict(start)
        columns = {
            "query": [example.query for example in work],
            "positive": [example.documents[0] for example in work],
            "negative": [example.documents[1] for example in work],
            "label": _margins(work),
        }
        arguments = side.arguments(CrossEncoderTrainingArguments, batch_sampler=in_order)
        rows, loss = Dataset.from_dict(columns), MarginMSELoss(model)
        return _losses(CrossEncoderTrainer(model=model, args=arguments, train_dataset=rows, loss=loss))

    return run


def _plain(side: Side, work: Work) -> Scores:
    """The same epoch written out: padded batches, AdamW, a linear schedule, clipped gradients."""
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(side.student).train()
    tokenizer = transformers.AutoTokenizer.from_pretrained(side.student)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    batches = [work[start : start + side.lists] for start in range(0, len(work), side.lists)]
    linear = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
    losses = []
    for batch in batches:
        queries = [example.query for example in batch for _ in example.documents]
        texts = [text for example in batch for text in example.documents]
        cut = {"truncation": "only_second", "max_length": TOKENS, "padding": True, "return_tensors": "pt"}
        scores = model(**tokenizer(queries, texts, **cut)).logits.view(len(batch), 2)
        loss = torch.nn.functional.mse_loss(scores[:, 0] - scores[:, 1], torch.tensor(_margins(batch)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        linear.step()
        losses.append(loss.item())
    return losses


def _losses(trainer: Any) -> list[float]:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _margins(work: Work) -> list[float]:
    return [example.scores[0] - example.scores[1] for example in work]


def _side(setting: Setting, dropout: float | None) -> Side:
    """A student in a folder of its own: real weights with a new head, or a tiny shape."""
    from training.students import CrossEncoder

    folder = setting.folder / f"student-{dropout}"
    body = shapes.encoder("MiniLM-L6", setting) if setting.smoke else BODY
    torch.manual_seed(data.SEED)
    CrossEncoder(body, layers=setting.pick(LAYERS, 1), max_tokens=TOKENS).finish(folder)
    if dropout is not None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Side(folder, setting.folder / "training", setting.pick(16, 2))


def _mixed(student: Path, count: int, shrink: int) -> list[Any]:
    """Made-up texts: query and document together as long as MS MARCO's."""
    import transformers

    writer = data.Writer(transformers.AutoTokenizer.from_pretrained(student).backend_tokenizer)
    totals = data.lengths("marco", 2 * count, shrink=shrink)
    texts = [writer.text(max(1, total - QUERY_TOKENS - 3)) for total in totals]
    return _scored((writer.text(QUERY_TOKENS), texts[2 * index : 2 * index + 2]) for index in range(count))


def _scifact(count: int) -> list[Any]:
    """SciFact's first training queries, each with a relevant document and a drawn one, whole.

    Raises:
        Absent: when the collection is not at hand.
    """
    from rerank import Dataset

    if not SCIFACT.is_dir():
        raise Absent("SciFact as a BEIR folder is not at ../shared/data/scifact")
    dataset, choice = Dataset.load(SCIFACT, "train"), random.Random(data.SEED)
    texts = {document.doc_id: document.full_text for document in dataset.documents()}
    relevant = {query_id: max(grades, key=lambda one: grades[one]) for query_id, grades in dataset.qrels.items()}
    return _scored(
        (query.text, [texts[relevant[query.query_id]], texts[choice.choice(sorted(texts))]])
        for query in list(dataset.queries)[:count]
    )


def _scored(lists: Any) -> list[Any]:
    """With a teacher's scores, which are drawn."""
    from training.examples import Example

    choice = random.Random(data.SEED)
    return [
        Example(query, tuple(documents), relevance=(1.0, 0.0), scores=(choice.uniform(0, 5), choice.uniform(-5, 0)))
        for query, documents in lists
    ]
