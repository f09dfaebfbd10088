"""Prompts with slots, prompts as segments, and what of a template is read together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rerank.engine.texts.borders import Borders

__all__ = ["Prompt", "Slot", "Template", "units"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a template for a text.

    Args:
        name: of the text; the same name may stand at several places.
        cut: the text is a document, which may be cut at its end to make the prompt fit. Nothing else ever is.
    """

    name: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with slots.

    Args:
        parts: texts and slots, in order.
        special_tokens: whether the tokenizer adds its own at both ends, as it would to a plain text. A chat template
            writes them itself.
    """

    parts: tuple[str | Slot, ...]
    special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as a model reads it.

    Args:
        segments: its pieces, none of them empty; side by side they are the prompt.
        merged: borders between template and texts that could not be told apart and were read across.
        cut: tokens that each document lost, by slot; documents that fit are not named.
        recalled: tokens that were not tokenised again.
        defused: special tokens that its texts spelt out, and that were broken up.
        renamed: brackets in its texts that looked like an identifier of a list, and became parentheses.
        fused: its segments are texts of their own, which one decoder reads together (fusion in decoder).
    """

    segments: tuple[tuple[int, ...], ...]
    merged: int = 0
    cut: Mapping[str, int] | None = None
    recalled: int = 0
    defused: int = 0
    renamed: int = 0
    fused: bool = False

    @property
    def ids(self) -> list[int]:
        """All of it."""
        return [token for segment in self.segments for token in segment]

    @property
    def texts(self) -> list[list[int]]:
        """What an encoder reads: one text, or several that are fused."""
        return [list(segment) for segment in self.segments] if self.fused else [self.ids]

    @property
    def amounts(self) -> dict[str, int]:
        """What putting it together adds to a bill, under the names of `rerank.cost.UNITS`; zeros are left out."""
        cut = self.cut or {}
        amounts = {
            "tokens_recalled": self.recalled,
            "borders_merged": self.merged,
            "special_tokens_defused": self.defused,
            "identifiers_renamed": self.renamed,
            "truncated_documents": len(cut),
            "truncated_tokens": sum(cut.values()),
        }
        return {name: amount for name, amount in amounts.items() if amount}

    def __len__(self) -> int:
        return sum(map(len, self.segments))


def units(borders: Borders, parts: Sequence[str | Slot]) -> tuple[list[tuple[str | Slot, ...]], int]:
    """What of a template is read together, and how many borders between its texts and slots are lost to that.

    A slot takes the text beside it that cannot be told apart from it; the rest is text alone.
    """
    together: list[list[str | Slot]] = [[]]
    lost = 0
    joined = _joined(parts)
    for index, part in enumerate(joined):
        if isinstance(part, Slot):
            together[-1].append(part)
            continue
        sides = {"left": index > 0, "right": index < len(joined) - 1}
        cuts = borders.cuts(part, **sides)
        if cuts is None:
            together[-1].append(part)
            lost += sum(sides.values())
            continue
        first, last = cuts
        together[-1].append(part[:first])
        together += [[part[first:last]], [part[last:]]]
    filled = [tuple(part for part in unit if part) for unit in together]
    return [unit for unit in filled if unit], lost


def _joined(parts: Sequence[str | Slot]) -> list[str | Slot]:
    """Neighbouring texts as one."""
    joined: list[str | Slot] = []
    for is_slot, group in groupby(parts, key=lambda part: isinstance(part, Slot)):
        run = list(group)
        joined.extend(run if is_slot else ["".join(part for part in run if isinstance(part, str))])
    return [part for part in joined if part]
