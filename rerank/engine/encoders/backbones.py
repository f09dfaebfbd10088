"""How transformers' encoders are taken apart into our layers; each family is tested against its stock forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from rerank.engine.encoders import deberta
from rerank.engine.encoders.attention import TextAttention, VarlenAttention
from rerank.engine.encoders.layers import Backbone, PostNorm, joined
from rerank.engine.encoders.modernbert import PreNorm, Rotary
from rerank.engine.encoders.mpnet import BUCKETS, BiasedAttention, RelativeBias

__all__ = ["bert", "deberta_v2", "distilbert", "modern_bert", "mpnet", "roberta"]


def bert(backbone: Any, varlen: bool) -> Backbone:
    """BERT and ELECTRA."""
    return _bert_shape(backbone, varlen, first_place=0)


def roberta(backbone: Any, varlen: bool) -> Backbone:
    """RoBERTa, XLM-R and CamemBERT: places begin after the padding's."""
    return _bert_shape(backbone, varlen, first_place=int(backbone.config.pad_token_id) + 1)


def _bert_shape(backbone: Any, varlen: bool, first_place: int) -> Backbone:
    attention = _plain(varlen)
    heads = backbone.config.num_attention_heads
    layers = []
    for layer in backbone.encoder.layer:
        parts = layer.attention.self
        layers.append(_bert_layer(layer, joined(parts.query, parts.key, parts.value), heads, attention))
    return Backbone(
        backbone.embeddings,
        layers,
        first_place=first_place,
        types=backbone.config.type_vocab_size,
        project=getattr(backbone, "embeddings_project", None),
    )


def _bert_layer(layer: Any, inward: nn.Linear, heads: int, attention: nn.Module) -> PostNorm:
    return PostNorm(
        inward,
        heads,
        attention,
        outward=layer.attention.output.dense,
        attention_norm=layer.attention.output.LayerNorm,
        up=layer.intermediate.dense,
        activation=layer.intermediate.intermediate_act_fn,
        down=layer.output.dense,
        output_norm=layer.output.LayerNorm,
    )


def distilbert(backbone: Any, varlen: bool) -> Backbone:
    """DistilBERT."""
    attention = _plain(varlen)
    layers = [
        PostNorm(
            joined(layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin),
            layer.attention.n_heads,
            attention,
            outward=layer.attention.out_lin,
            attention_norm=layer.sa_layer_norm,
            up=layer.ffn.lin1,
            activation=_module(layer.ffn.activation),
            down=layer.ffn.lin2,
            output_norm=layer.output_layer_norm,
        )
        for layer in backbone.transformer.layer
    ]
    return Backbone(backbone.embeddings, layers)


def modern_bert(backbone: Any, varlen: bool) -> Backbone:
    """ModernBERT: local and global layers, each kind with a rotary embedding of its own."""
    config = backbone.config
    make = VarlenAttention if varlen else TextAttention
    windows = {"full_attention": None, "sliding_attention": config.sliding_window}
    attention = {kind: make(windows[kind]) for kind in set(config.layer_types)}
    rotary = {kind: Rotary(backbone, kind) for kind in set(config.layer_types)}
    layers = [
        PreNorm(layer, config.num_attention_heads, attention[kind], rotary[kind])
        for layer, kind in zip(backbone.layers, config.layer_types, strict=True)
    ]
    return Backbone(backbone.embeddings, layers, first_place=None, norm=backbone.final_norm)


def mpnet(backbone: Any, varlen: bool) -> Backbone:
    """MPNet: a bias by relative distance, which all layers share."""
    table = backbone.encoder.relative_attention_bias.weight.detach().T[:, :BUCKETS].contiguous()  # [heads, buckets]
    attention = VarlenAttention(bias=table) if varlen else BiasedAttention(RelativeBias(table))
    layers = [
        PostNorm(
            joined(layer.attention.attn.q, layer.attention.attn.k, layer.attention.attn.v),
            layer.attention.attn.num_attention_heads,
            attention,
            outward=layer.attention.attn.o,
            attention_norm=layer.attention.LayerNorm,
            up=layer.intermediate.dense,
            activation=layer.intermediate.intermediate_act_fn,
            down=layer.output.dense,
            output_norm=layer.output.LayerNorm,
        )
        for layer in backbone.encoder.layer
    ]
    return Backbone(backbone.embeddings, layers, first_place=backbone.embeddings.padding_idx + 1)


def deberta_v2(backbone: Any, varlen: bool) -> Backbone:
    """DeBERTa-v2 and v3."""
    config, embeddings = backbone.config, backbone.encoder.get_rel_embedding()
    layers: list[nn.Module] = []
    for layer in backbone.encoder.layer:
        parts = layer.attention.self
        tables = deberta.PositionTables(parts, embeddings)
        attention = (
            deberta.VarlenDisentangled(tables)
            if varlen
            else deberta.DisentangledAttention(tables, config.max_position_embeddings)
        )
        inward = joined(parts.query_proj, parts.key_proj, parts.value_proj)
        layers.append(_bert_layer(layer, inward, parts.num_attention_heads, attention))
    if backbone.encoder.conv is not None:
        layers[0] = deberta.ConvolvedLayer(layers[0], backbone.encoder.conv)
    return Backbone(backbone.embeddings, layers, types=config.type_vocab_size)


def _plain(varlen: bool) -> nn.Module:
    return VarlenAttention() if varlen else TextAttention()


def _module(function: Callable[..., Any]) -> nn.Module:
    """An activation as a module; transformers' are modules nearly always."""
    return function if isinstance(function, nn.Module) else _Function(function)


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, hidden: Any) -> Any:
        return self.function(hidden)
