"""Texts through the encoder of a T5, in the mode that suits the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rerank.engine.t5.across import Across
from rerank.engine.t5.encoder import PackedEncoder, PaddedEncoder, VarlenEncoder, Work, rectangle
from rerank.engine.t5.model import check_encoder_of_t5, quicken
from rerank.engine.t5.results import Encoded
from rerank.errors import CheckpointError, InputError
from rerank.kernels.varlen_attention import varlen_attention

__all__ = ["Groups", "TextEncoder", "check_ids", "compare"]

Groups = Sequence[Sequence[Sequence[int]]]
MODES = ("packed", "varlen", "padded")


class TextEncoder:
    """The encoder of a T5, mT5 or UMT5 alone, for a head of one's own (RankT5's encoder-only shape).

    Args:
        model: a transformers `…EncoderModel`, or any T5 with an `encoder`, in evaluation mode, on its device.
        mode: `packed`, `varlen` or `padded`; by default chosen by the device.
        deterministic: as for `EncoderDecoder`.

    Raises:
        CheckpointError: as for `EncoderDecoder`.
        InputError: when there is no such mode, or it cannot be deterministic.

    `across`, where it is set, lets the texts of a group see each other.
    """

    def __init__(self, model: Any, *, mode: str | None = None, deterministic: bool | None = None) -> None:
        check_encoder_of_t5(model)
        self.model = model
        self.device: torch.device = model.device
        self.mode = _mode(mode, self.device)
        self.deterministic = _deterministic(deterministic, self.mode, model)
        probes = [[5, 6, 7, 8, 9], [9, 8, 7]]
        expected = self._stock(probes)
        quicken(model)
        made: dict[str, Callable[[], PackedEncoder | VarlenEncoder | PaddedEncoder]] = {
            "packed": lambda: PackedEncoder(model),
            "varlen": lambda: VarlenEncoder(model, settled=self.deterministic),
            "padded": lambda: PaddedEncoder(model),
        }
        self._encoder = made[self.mode]()
        self.across: Across | None = None
        compare(self.encode(probes).mean().cpu(), expected, model, "encoder")

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        fused = ", fused linear layers" if self._encoder.fused else ""
        return f"{self.mode}{fused}{', deterministic' if self.deterministic and self.mode == 'varlen' else ''}"

    @property
    def packs(self) -> bool:
        """True when a batch costs what its tokens cost, whatever their lengths."""
        return self.mode != "padded"

    @torch.inference_mode()
    def encode(self, texts: Sequence[Sequence[int]]) -> Encoded:
        """The encoder's last hidden states.

        Args:
            texts: encoder ids of each, end token included where the template wants one.

        Raises:
            InputError: when a text is empty or an id is not in the vocabulary.
        """
        work = Work()
        hidden = self.states([[text] for text in texts], work)
        states = torch.cat(hidden) if hidden else torch.empty(0, self.model.config.d_model, device=self.device)
        return Encoded(states, tuple(map(len, texts)), len(states), work.rows - len(states), work.flops)

    def states(self, groups: Groups, work: Work) -> list[Tensor]:
        """The states of each group of texts, one text after the other: [tokens, dim]."""
        self.check(groups)
        if not groups:
            return []
        after = None if self.across is None else self.across.behind(groups, work)
        hidden = self._encoder.encode([text for group in groups for text in group], work, after)
        return list(torch.split(hidden, [sum(map(len, group)) for group in groups]))

    def check(self, groups: Groups) -> None:
        """Refuse groups and texts that hold nothing, and ids that have no embedding.

        Raises:
            InputError: naming the first.
        """
        texts = [text for group in groups for text in group]
        if not all(groups):
            raise InputError(f"group {[*map(len, groups)].index(0)} has no texts; leave it out")
        for index, text in enumerate(texts):
            if not text:
                raise InputError(f"text {index} has no tokens; its template should give at least one")
        check_ids(self.model, "texts", [*itertools.chain.from_iterable(texts)])

    @torch.inference_mode()
    def _stock(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Mean states from the model's own forward."""
        ids, mask = rectangle(texts, self.device)
        states = self.model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return torch.stack([row[: len(text)].mean(0) for row, text in zip(states, texts, strict=True)]).cpu()


def check_ids(model: Any, name: str, ids: Sequence[int]) -> None:
    """Refuse ids that have no embedding."""
    size = model.get_input_embeddings().num_embeddings
    for token in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= token < size:
            raise InputError(f"{name}: there is no token {token} in a vocabulary of {size}; do they belong together?")


def compare(got: Tensor, expected: Tensor, model: Any, what: str) -> None:
    """See at load that what runs here gives what the model's own forward gives."""
    exact = model.dtype == torch.float32
    size = float(expected.abs().max())
    if not float((got - expected).abs().max()) <= (1e-3 if exact else 1e-1) * max(1.0, size):  # NaN is not either
        raise CheckpointError(
            f"the {what} changes the scores of this {type(model).__name__} "
            f"({got[0, :3].tolist()} for {expected[0, :3].tolist()}); please report it with the version of transformers"
        )


def _mode(mode: str | None, device: torch.device) -> str:
    """The mode asked for, or the best for the device; varlen attention needs its kernel on a GPU."""
    if mode is None and device.type == "cpu":
        return "packed"
    if mode is None:
        return "varlen" if device.type == "cuda" and "triton" in varlen_attention.providers else "padded"
    if mode not in MODES:
        raise InputError(f"there is no mode {mode!r}; it may be one of {', '.join(MODES)}")
    return mode


def _deterministic(wanted: bool | None, mode: str, model: Any) -> bool:
    always = mode == "packed" and model.dtype == torch.float32
    if wanted and not always and mode != "varlen":
        raise InputError(
            f"mode {mode!r} in {str(model.dtype).removeprefix('torch.')} cannot be deterministic; "
            "use 'packed' in float32, or 'varlen'"
        )
    return always or bool(wanted)
