"""Set-encoders: the documents of a list beside each other, each knowing of one token of every other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rerank import checkpoints
from rerank.checkpoints.folder import settings
from rerank.engine.encoders.padded import rectangle
from rerank.engine.encoders.set_model import INTERACTION, SetConfig, backbone_class, load_set_encoder
from rerank.engine.loading import Loading, explained, quiet
from rerank.engine.texts.set_tokens import SetTexts, SetTokens
from rerank.engine.texts.text_tokens import store_for
from rerank.errors import InputError
from training.duplicates import Copied
from training.examples import Example
from training.losses.pointwise import balanced_bce
from training.students.student import Lora, Student, with_lora

__all__ = ["SetEncoder", "attend"]

ATTENTION = "rerank-sets"
"""What transformers knows its attention by."""

DETECTOR = "detector.pt"
"""In a checkpoint: the layer that says which documents are shown twice."""


class SetEncoder(Student):
    """Set-Encoder (https://arxiv.org/abs/2404.06912), from a BERT or an ELECTRA, or from a set-encoder.

    What is written has lightning-ir's layout, as the released models have.

    Args:
        name: a checkpoint's name, hub id or folder. A body gets a new token [INT], and a new linear layer.
        query_tokens, document_tokens: the most that is read of each; a set-encoder's own when it is one.
        detect: learn beside the loss which documents the list shows twice, by a linear layer of its own over the state
            that is scored (`balanced-bce`); the loss is then over each document once. The layer is not written with the
            model.
        lora: not for set-encoders, whose new token and layer must be trained.
        dtype: of the weights.

    Raises:
        CheckpointError: when transformers cannot load it.
        InputError: when it is neither, or adapters are asked for.
    """

    sees_lists: ClassVar[bool] = True

    def __init__(
        self,
        name: str | Path,
        *,
        query_tokens: int = 32,
        document_tokens: int = 256,
        detect: bool = False,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        if lora is not None:
            raise InputError("a set-encoder is trained whole: its interaction token and its linear layer may be new")
        folder = checkpoints.fetch(name)
        model, tokenizer, self.shape = _loaded(folder, query_tokens, document_tokens, dtype)
        super().__init__(with_lora(model, lora), tokenizer)
        model.set_attn_implementation(_register())
        self.detector = nn.Linear(model.config.hidden_size, 1) if detect else None
        self.tokens = SetTokens(
            tokenizer,
            extra=INTERACTION if self.shape.extra_token else None,
            query_tokens=self.shape.query_tokens,
            document_tokens=self.shape.document_tokens,
            store=store_for(tokenizer, None),
        )

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return "padded, attention over sets"

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A text a document; all lists of a batch in one rectangle, told apart by `sets`."""
        read = self.tokens.sets([(example.query, _shown(example)) for example in examples])
        sets = [_readable(texts, example) for texts, example in zip(read, examples, strict=True)]
        pairs = [pair for texts in sets for pair in texts.texts]
        owners = torch.arange(len(sets)).repeat_interleave(torch.tensor([len(texts.texts) for texts in sets]))
        inputs = {name: tensor.long().cpu() for name, tensor in rectangle(self.core, pairs).items()}
        found = {**inputs, "sets": owners, "cut": torch.tensor(sum(pair.cut > 0 for pair in pairs))}
        if self.detector is not None:
            found["copies"] = torch.tensor([place >= len(one) for one in examples for place in range(len(_shown(one)))])
            found["twice"] = torch.tensor([twice for example in examples for twice in _twice(example)])
        return found

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> Any:
        """float [texts]; with `detect`, these `scores`, the `detected` logits, and `twice`, `copies` and `sets`."""
        model, sets = self.core, inputs.pop("sets")
        labels = {name: inputs.pop(name) for name in ("copies", "twice") if name in inputs}
        others = (sets[:, None] == sets[None, :]) & ~torch.eye(len(sets), dtype=torch.bool, device=sets.device)
        seen = torch.cat([inputs["attention_mask"].bool(), others], 1)[:, None, None]  # [texts, 1, 1, tokens + texts]
        outputs = model(**inputs, seen=seen, shown=int(self.shape.extra_token))
        states = outputs.last_hidden_state[:, 0]
        logits = model.linear(states)
        score: Tensor = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        if self.detector is None:
            return score
        return {"scores": score, "detected": self.detector(states)[:, 0], "sets": sets, **labels}

    def scores_of(self, outputs: Any) -> Tensor:
        """Of the documents, without copies: float [texts]."""
        scores: Tensor = outputs if self.detector is None else outputs["scores"][~outputs["copies"]]
        return scores

    def scores_shown(self, outputs: Any) -> Tensor:
        """Of all that was shown: float [texts]."""
        scores: Tensor = outputs if self.detector is None else outputs["scores"]
        return scores

    def loss_beside(self, outputs: Any) -> Tensor | None:
        """How well it says which documents are shown twice: the mean over lists."""
        if self.detector is None:
            return None
        counts = outputs["sets"].bincount()
        mask = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
        logits = outputs["detected"].new_zeros(mask.shape).masked_scatter(mask, outputs["detected"])
        labels = logits.new_zeros(mask.shape).masked_scatter(mask, outputs["twice"].to(logits.dtype))
        return balanced_bce(logits, labels, mask).mean()

    def save(self, folder: str | Path, state: dict[str, Tensor] | None = None) -> None:
        """As lightning-ir does: a backbone's files, and a config that says what the model is for."""
        super().save(folder, state)
        path = Path(folder) / "config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        own = {
            "model_type": "set-encoder",
            "backbone_model_type": self.shape.backbone,
            "architectures": [f"SetEncoder{self.shape.backbone.capitalize()}Model"],
            "query_length": self.shape.query_tokens,
            "doc_length": self.shape.document_tokens,
            "add_extra_token": self.shape.extra_token,
            "linear_bias": self.shape.bias,
            "pooling_strategy": "first",
            "sample_missing_docs": False,
            "scoring_strategy": "mono" if self.shape.labels == 2 else "rank",
        }
        path.write_text(json.dumps(values | own, indent=2), encoding="utf-8")
        if self.detector is not None:
            torch.save(self._detector_weights(state), Path(folder) / DETECTOR)

    def _detector_weights(self, state: dict[str, Tensor] | None) -> dict[str, Tensor]:
        assert self.detector is not None
        names = self.detector.state_dict()
        return names if state is None else {name: state[f"detector.{name}"] for name in names}

    def restore(self, folder: str | Path) -> None:
        """Take over the weights that `save` wrote."""
        from safetensors.torch import load_file

        self.model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        if self.detector is not None:
            self.detector.load_state_dict(torch.load(Path(folder) / DETECTOR, map_location="cpu"))

    def finish(self, folder: str | Path) -> None:
        """Write the set-encoder, without what it has learnt beside."""
        super().finish(folder)
        (Path(folder) / DETECTOR).unlink(missing_ok=True)


def _shown(example: Example) -> tuple[str, ...]:
    copies = example.copies if isinstance(example, Copied) else ()
    return (*example.documents, *(text for _, text in copies))


def _twice(example: Example) -> list[bool]:
    """Whether a list shows a duplicate of it, for each text."""
    groups = example.groups if isinstance(example, Copied) else tuple(range(len(example)))
    return [groups.count(group) > 1 for group in groups]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    seen: Tensor,
    shown: int,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention to the own text and to one token of each other text of the set.

    Args:
        module, attention_mask, options: as transformers gives them, unread.
        query, key, value: [texts, heads, tokens, dim].
        scaling, dropout: as transformers gives them.
        seen: bool [texts, 1, 1, tokens + texts]: the own tokens that are no padding, and the texts of the same set
            without the own.
        shown: the place of the token that others see.

    Returns:
        [texts, tokens, heads, dim], and no weights.
    """
    keys, values = (torch.cat([part, _of_others(part, shown)], 2) for part in (key, value))
    attended = scaled_dot_product_attention(query, keys, values, attn_mask=seen, dropout_p=dropout, scale=scaling)
    return attended.transpose(1, 2), None


def _of_others(part: Tensor, shown: int) -> Tensor:
    """[texts, heads, tokens, dim] -> [texts, heads, texts, dim]: the shown token of every text, for every text."""
    tokens = part[:, :, shown].transpose(0, 1)  # [heads, texts, dim]
    return tokens[None].expand(len(part), -1, -1, -1)


@cache
def _register() -> str:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    return ATTENTION


def _loaded(folder: Path, query_tokens: int, document_tokens: int, dtype: str) -> tuple[Any, Any, SetConfig]:
    if settings(folder).get("model_type") == "set-encoder":  # a body may be of any kind, such as ElectraForPreTraining
        loaded, shape = load_set_encoder(folder, Loading("cpu", dtype))
        return loaded.model.train(), loaded.tokenizer, shape
    return _from_body(folder, query_tokens, document_tokens, dtype)


def _from_body(folder: Path, query_tokens: int, document_tokens: int, dtype: str) -> tuple[Any, Any, SetConfig]:
    """A body with a new token and a new layer."""
    import transformers

    with explained(folder):
        config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type not in ("bert", "electra"):
        raise InputError(f"{folder.name} is a {config.model_type}; set-encoders are made of BERT or ELECTRA")
    if query_tokens + document_tokens + 4 > config.max_position_embeddings:
        raise InputError(
            f"query_tokens={query_tokens} and document_tokens={document_tokens} with 4 special tokens are over the "
            f"{config.max_position_embeddings} that {folder.name} reads"
        )
    shape = SetConfig(config.model_type, query_tokens, document_tokens, extra_token=True, labels=1, bias=False)
    with quiet(), explained(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": [INTERACTION]})
        model = backbone_class(shape).from_pretrained(folder, config=config, dtype=getattr(torch, dtype))
        model.resize_token_embeddings(len(tokenizer))
    nn.init.normal_(model.linear.weight, std=config.initializer_range)
    return model.train(), tokenizer, shape


def _readable(texts: SetTexts | InputError, example: Example) -> SetTexts:
    if isinstance(texts, InputError):
        raise InputError(f"query {example.query[:60]!r}: {texts}")
    return texts
