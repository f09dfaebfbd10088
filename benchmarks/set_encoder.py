"""SE1: a set encoder, whose documents see each other's first tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import data, pairs, shapes
from benchmarks.contest import Contest, Outcome, Peer, Scores, Setting, workload
from benchmarks.pairs import Item

__all__: list[str] = []

Work = Sequence[Item]
Way = Callable[[Work, int], Scores]


@workload("SE1", "listwise", "set encoder of BERT-base shape, 100 documents a query, nq lengths")
def se1(setting: Setting) -> Iterator[Contest]:
    folder = shapes.encoder("BERT-base", setting)
    work = pairs.items(folder, data.lengths("nq", setting.pick(100, 5), shrink=setting.pick(1, 4)))
    exact = setting.device == "cpu"
    yield Contest(
        "one query, ids in",
        work,
        _packed(folder, setting),
        lambda work: _masked(folder, setting, "float32")(work, 1),
        [
            Peer("lightning-ir", lambda: _lightning(folder, setting), "lightning-ir", (1,), target=3.0),
            Peer("transformers, one mask", lambda: _masked(folder, setting, setting.dtype), "transformers", (1,)),
        ],
        tolerance=1e-4 if exact else None,
        tau=None if exact else 0.95,
        peak=setting.dtype,
    )


def _packed(folder: Path, setting: Setting) -> Callable[[Work], Outcome]:
    """Our encoder of sets: one row of tokens, each document's keys made once."""
    from rerank.engine.encoders.set_model import SetConfig, backbone_class
    from rerank.engine.encoders.sets import SetEncoding
    from rerank.engine.tokens import Pair

    stock = _model(folder, setting, setting.dtype, "eager")
    made = backbone_class(SetConfig("bert", 32, 512, extra_token=False, labels=1, bias=True))
    model = made(stock.config).eval().to(setting.device, stock.dtype)
    linear = {f"linear.{name}": part for name, part in stock.classifier.state_dict().items()}
    model.load_state_dict(
        {name: part for name, part in stock.bert.state_dict().items() if "pooler" not in name} | linear
    )
    encoding = SetEncoding(model, interaction=0)

    def run(work: Work) -> Outcome:
        output = encoding.run([[Pair.of(item.ids, item.types) for item in work]])
        return Outcome(output.values[:, 0].tolist(), {"tokens_real": sum(len(item.ids) for item in work)})

    return run


def _masked(folder: Path, setting: Setting, dtype: str) -> Way:
    """Padded documents; keys and values of first tokens behind each document's own, with a mask over them all."""
    from transformers import AttentionInterface

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        others = options["others"]
        heads, dim = query.shape[1], query.shape[3]
        docs = len(query)
        key, value = (
            torch.cat([part, part[:, :, 0].permute(1, 0, 2)[None].expand(docs, heads, docs, dim)], 2)
            for part in (key, value)
        )
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=others)
        return attended.transpose(1, 2), None

    AttentionInterface.register("bench_masked", attend)
    model = _model(folder, setting, dtype, "bench_masked")

    def run(work: Work, batch_size: int) -> Scores:
        ids, types, seen = _rectangle(work, setting.device)
        other = ~torch.eye(len(work), dtype=torch.bool, device=setting.device)
        mask = torch.cat([seen.bool(), other], 1)[:, None, None]
        with torch.inference_mode():
            hidden = model.bert(input_ids=ids, token_type_ids=types, others=mask).last_hidden_state
            return [float(score) for score in model.classifier(hidden[:, 0])[:, 0]]

    return run


def _lightning(folder: Path, setting: Setting) -> Way:
    """lightning-ir's `SetEncoderModel` on the same weights; the linear layer is the stock model's."""
    from lightning_ir.models import SetEncoderConfig, SetEncoderModel
    from transformers import BatchEncoding

    stock = _model(folder, setting, setting.dtype, "eager")
    config = SetEncoderConfig(query_length=32, doc_length=512, depth=100, sample_missing_docs=False)
    model = SetEncoderModel.from_pretrained(folder, config=config).eval().to(setting.device, stock.dtype)

    def run(work: Work, batch_size: int) -> Scores:
        ids, types, seen = _rectangle(work, setting.device)
        encoding = {"input_ids": ids, "token_type_ids": types, "attention_mask": seen, "num_docs": [len(work)]}
        with torch.inference_mode():
            output = model.forward(BatchEncoding(encoding))
            embeddings = output.embeddings.view(len(work), -1)
            return [float(score) for score in stock.classifier(embeddings)[:, 0]]

    return run


def _model(folder: Path, setting: Setting, dtype: str, attention: str) -> Any:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation=attention
    )
    return model.eval().to(setting.device)


def _rectangle(work: Work, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, types and which of them are real: [docs, longest] each."""
    longest = max(len(item.ids) for item in work)
    gaps = [[0] * (longest - len(item.ids)) for item in work]
    rows = (
        [item.ids + gap for item, gap in zip(work, gaps, strict=True)],
        [item.types + gap for item, gap in zip(work, gaps, strict=True)],
        [[1] * len(item.ids) + gap for item, gap in zip(work, gaps, strict=True)],
    )
    ids, types, seen = (torch.tensor(each, device=device) for each in rows)
    return ids, types, seen
