"""Set-encoder checkpoints as lightning-ir 0.0.6 writes them: a backbone with a linear layer, and a config of its own.

https://github.com/webis-de/lightning-ir: `model_type` is "set-encoder" and `backbone_model_type` "bert" or "electra";
`query_length` and `doc_length` are tokens of the two texts; with `add_extra_token` the token that other documents see
is an [INT] behind [CLS], else it is [CLS] itself. `depth` and `sample_missing_docs` say how the sets of its training
were filled up, and change nothing here: no document is made up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rerank.engine.encoders.lightning import backbone_config, backbone_tokenizer
from rerank.engine.loading import Loaded, Loading, Shaped, load
from rerank.errors import CheckpointError

__all__ = ["SetConfig", "backbone_class", "load_set_encoder"]

INTERACTION = "[INT]"


@dataclass(frozen=True, slots=True)
class SetConfig:
    """What a set-encoder's config says beside its backbone's shape.

    Args:
        backbone: "bert" or "electra".
        query_tokens, document_tokens: the most that it reads of each, special tokens not counted.
        extra_token: whether [INT] is what other documents see, and not [CLS].
        labels: logits of its linear layer: 1, or 2 of which the second means relevant.
        bias: whether that layer has one.
    """

    backbone: str
    query_tokens: int
    document_tokens: int
    extra_token: bool
    labels: int
    bias: bool

    @classmethod
    def read(cls, folder: Path) -> tuple[SetConfig, dict[str, Any]]:
        """From a folder's config.json; and all that is written there.

        Raises:
            CheckpointError: when it says something that cannot be done here.
        """
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for name, known in (("pooling_strategy", ("first",)), ("_bert_pool", (False,)), ("use_adapter", (False,))):
            if values.get(name, known[0]) not in known:
                raise CheckpointError(
                    f"{folder / 'config.json'}: {name} is {values[name]!r}; set-encoders with {known[0]!r} are known"
                )
        if (backbone := values.get("backbone_model_type")) not in ("bert", "electra"):
            raise CheckpointError(
                f"{folder / 'config.json'}: backbone_model_type is {backbone!r}; it may be 'bert' or 'electra'"
            )
        room = int(values.get("max_position_embeddings", 512))
        return cls(
            backbone,
            query_tokens=min(values.get("query_length") or room, room),
            document_tokens=min(values.get("doc_length") or room, room),
            extra_token=bool(values.get("add_extra_token", False)),
            labels=2 if values.get("scoring_strategy", "rank") == "mono" else 1,
            bias=bool(values.get("linear_bias", False)),
        ), values


def load_set_encoder(folder: Path, loading: Loading) -> tuple[Loaded, SetConfig]:
    """The backbone with its `linear`, its tokenizer, and what its config says.

    Raises:
        CheckpointError: when weights or the interaction token are missing, or the config is of another kind.
    """
    config, values = SetConfig.read(folder)
    shaped = Shaped(backbone_class(config), backbone_config(config.backbone, values), backbone_tokenizer(folder))
    loaded = load(folder, "backbone", loading, shaped)
    if config.extra_token and INTERACTION not in loaded.tokenizer.get_vocab():
        raise CheckpointError(
            f"{folder} says add_extra_token, but its tokenizer has no {INTERACTION}; save it with its added tokens"
        )
    return loaded, config


def backbone_class(config: SetConfig) -> Any:
    """A class of transformers with a linear layer beside its backbone, as lightning-ir puts it there."""
    import transformers

    backbone: Any = {"bert": transformers.BertModel, "electra": transformers.ElectraModel}[config.backbone]
    without_pooler = {"add_pooling_layer": False} if config.backbone == "bert" else {}

    class SetBackbone(backbone):  # type: ignore[misc]
        def __init__(self, shape: Any) -> None:
            super().__init__(shape, **without_pooler)
            self.linear = nn.Linear(shape.hidden_size, config.labels, bias=config.bias)
            self.post_init()

    return SetBackbone
