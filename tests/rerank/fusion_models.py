"""Small T5s that write numbers, a small Fusion-in-T5, and the plain loops that judges over them must equal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from judge_models import TOKENIZERS, _loaded, _tokenizer
from safetensors.torch import save_file
from torch import nn

from rerank.types import Document, Query

END = 1
SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "vocab_size": 32_128}


def _silently(save: Any) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    save()
    logging.enable_progress_bar()


def _random(module: nn.Module) -> None:
    transformers.set_seed(11)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)


def counting_t5(folder: Path, real: Path, texts: str) -> Path:
    """A T5 that writes nothing but the tokens of a text, more or less in its order."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(real)
    config = transformers.T5Config(**SHAPE, tie_word_embeddings=False, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    _random(model)
    nn.init.normal_(model.shared.weight)
    ids = tokenizer(texts)["input_ids"]  # the end token among them
    with torch.no_grad():
        model.lm_head.weight = nn.Parameter(torch.zeros_like(model.shared.weight))  # transformers ties it regardless
        for before, token in pairwise([0, *ids]):  # what was written last, and the documents, decide what comes next
            model.lm_head.weight[token] += model.shared.weight[before] + 0.5 * torch.randn(32)
    _silently(lambda: model.save_pretrained(folder))
    for name in TOKENIZERS:
        if (real / name).is_file():
            (folder / name).write_bytes((real / name).read_bytes())
    return folder


@torch.inference_mode()
def fused_states(folder: Path, texts: Sequence[str]) -> torch.Tensor:
    """Each text through the encoder by itself, the states side by side: [1, tokens, dim]."""
    model, tokenizer = _loaded(transformers.AutoModelForSeq2SeqLM, folder), _tokenizer(folder)
    each = [tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    return torch.cat([model.encoder(input_ids=ids).last_hidden_state for ids in each], 1)


@torch.inference_mode()
def plain_writing(folder: Path, texts: Sequence[str], most: int, valid: Sequence[str] = ()) -> list[int]:
    """Greedy ids over fused states, step by step; with `valid`, along the tokens of one of these texts."""
    model, tokenizer = _loaded(transformers.AutoModelForSeq2SeqLM, folder), _tokenizer(folder)
    states = fused_states(folder, texts)
    ways = [tokenizer(text)["input_ids"] for text in valid]
    written: list[int] = []
    while len(written) < most and END not in written:
        logits = model(
            encoder_outputs=(states,), decoder_input_ids=torch.tensor([[0, *written]]), use_cache=False
        ).logits[0, -1]
        if ways:
            may = {way[len(written)] for way in ways if way[: len(written)] == written}
            logits = torch.full_like(logits, -torch.inf).index_copy(0, torch.tensor([*may]), logits[[*may]])
        written.append(int(logits.argmax()))
    return written


@torch.inference_mode()
def plain_reading(folder: Path, texts: Sequence[str], front: str, most: int) -> list[float]:
    """LiT5-Score, from the attentions that transformers gives out."""
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = _tokenizer(folder)
    states = fused_states(folder, texts)
    read = [0, *plain_writing(folder, texts, most)[:-1]]
    layers = model.decoder(
        input_ids=torch.tensor([read]), encoder_hidden_states=states, output_attentions=True, use_cache=False
    ).cross_attentions
    mass = torch.zeros(states.shape[1])
    for block, attention in zip(model.decoder.block, layers, strict=True):
        module = block.layer[1].EncDecAttention
        values = module.v(states[0]).view(-1, module.n_heads, module.key_value_proj_dim)
        mass += (attention[0] * values.norm(dim=-1).T[:, None]).mean(0).sum(0)
    skipped = len(tokenizer(front, add_special_tokens=False)["input_ids"])
    shares, start = [], 0
    for text in texts:
        length = len(tokenizer(text)["input_ids"])
        shares.append(mass[start + skipped : start + length].sum().item() / (256 * len(layers)))
        start += length
    return shares


def fit5_folder(folder: Path, real: Path, layers: int = 2) -> Path:
    """A Fusion-in-T5 with random weights, under the names of the published code."""
    from transformers.models.t5.modeling_t5 import T5LayerSelfAttention

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(real)
    tokenizer.add_tokens("[CLS]", special_tokens=True)
    tokenizer.save_pretrained(folder)
    config = transformers.T5Config(**SHAPE, tie_word_embeddings=False, decoder_start_token_id=0)
    parts = nn.ModuleDict({"t5": transformers.T5Model(config), "dense": nn.Linear(32, SHAPE["vocab_size"])})
    across = nn.ModuleList([T5LayerSelfAttention(config) for _ in range(layers)])
    _random(parts), _random(across)
    weights = {name: weight for name, weight in parts.state_dict().items() if "embed_tokens" not in name}
    weights |= {f"t5.encoder.project_global.{name}": weight for name, weight in across.state_dict().items()}
    save_file({name: weight.contiguous().clone() for name, weight in weights.items()}, folder / "model.safetensors")
    said = config.to_dict() | {"architectures": ["FusionInT5"], "num_global_layers": layers}
    (folder / "config.json").write_text(json.dumps(said, default=str))
    return folder


@torch.inference_mode()
def plain_fit5(folder: Path, texts: Sequence[str]) -> list[float]:
    """The published forward, layer by layer over lists of texts: logits of "true" (1176)."""
    from safetensors.torch import load_file
    from transformers.models.t5.modeling_t5 import T5LayerSelfAttention

    weights, tokenizer = load_file(folder / "model.safetensors"), _tokenizer(folder)
    count = json.loads((folder / "config.json").read_text())["num_global_layers"]
    config = transformers.T5Config(**SHAPE, tie_word_embeddings=False, decoder_start_token_id=0)
    model = transformers.T5Model(config).eval()
    inner = {name.removeprefix("t5."): weight for name, weight in weights.items() if name.startswith("t5.")}
    model.load_state_dict(
        {name: weight for name, weight in inner.items() if "project_global" not in name}, strict=False
    )
    across = nn.ModuleList([T5LayerSelfAttention(config) for _ in range(count)]).eval()
    prefix = "encoder.project_global."
    across.load_state_dict({n.removeprefix(prefix): weight for n, weight in inner.items() if n.startswith(prefix)})
    ids = [tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    hidden = [model.shared(one) for one in ids]
    bias: list[Any] = [None] * len(ids)
    for number, block in enumerate(model.encoder.block):
        for index, one in enumerate(hidden):
            hidden[index], bias[index] = block(one, position_bias=bias[index])[:2]
        if number >= config.num_layers - count:
            first = torch.cat([one[:, :1] for one in hidden], 1)  # [1, texts, dim]
            seen = first + across[number - config.num_layers + count](first)[0]
            for index, one in enumerate(hidden):
                one[:, 0] = seen[:, index]
    scores = []
    for one in hidden:
        states = model.encoder.final_layer_norm(one)
        last = model.decoder(input_ids=torch.tensor([[0]]), encoder_hidden_states=states, use_cache=False)[0][0, -1]
        scores.append((weights["dense.weight"][1176] @ last + weights["dense.bias"][1176]).item())
    return scores


QUESTION = Query("q", "how many people live in Berlin?")
PASSAGES = (
    Document("a", "New York City is famous for its museums.", "New York"),
    Document("b", "Berlin has 3,520,031 registered inhabitants in an area of 891.82 square kilometers."),
    Document("c", "The wall fell in 1989."),
    Document("d", "Around 600,000 people live in the city, says the mayor (2021).", "Population"),
    Document("e", "Bread is baked from flour, water and salt."),
)
