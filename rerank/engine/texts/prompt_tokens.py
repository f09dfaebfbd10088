"""Prompts as segments of token ids: what a template says, what a query says, what each document says.

The segments of a prompt, side by side, are the ids that the tokenizer gives the whole prompt: no token of a template is
read differently because it stands in a prompt that is put together. What prompts have in common is therefore the same
segments, which causal models compute once (`rerank.engine.prefix`), and a text is tokenised once however many prompts
hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from rerank.engine.texts.borders import PROBES, Borders
from rerank.engine.texts.prompt_parts import Prompt, Slot, Template, units
from rerank.engine.texts.shares import shares
from rerank.engine.texts.text_tokens import TextIds, unreadable
from rerank.errors import InputError

__all__ = ["Prompt", "PromptTokens", "Slot", "Template"]


class PromptTokens:
    """One template as one tokenizer writes it.

    Where the pieces of the template part is found when it is made: a slot takes with it as much of the text beside it
    as the tokenizer reads together with it (the space in front of a word, the quotation mark behind a full stop), tried
    on texts that begin and end as texts do. When a prompt's own texts do otherwise, the pieces concerned are read as
    one, in that prompt, and counted.

    Args:
        borders: of the tokenizer, to be shared by all its templates.
        template: the prompt with slots.
        verify: compare every prompt with the ids of its whole text, and take those where they differ; this tokenises
            everything each time.

    Raises:
        InputError: when the template has no text and no slot.

    Attributes:
        segments: False when every prompt is encoded at once, because the tokenizer reads across all borders, or its
            pieces are not the whole even on plain texts.
    """

    def __init__(self, borders: Borders, template: Template, *, verify: bool = False) -> None:
        if not template.parts:
            raise InputError("a template needs a text or a slot")
        self.borders = borders
        self.template = template
        self.verify = verify
        self.slots = {part.name: part for part in template.parts if isinstance(part, Slot)}
        self._units, self._lost = units(borders, template.parts)
        self._before, self._after = self._special() if template.special_tokens else ((), ())
        self.segments = len(self._units) > 1 or not self._lost
        self.segments = self.segments and all(self._same(dict.fromkeys(self.slots, probe)) for probe in PROBES)

    def render(
        self,
        texts: Mapping[str, str],
        *,
        max_tokens: int | None = None,
        document_tokens: int | None = None,
        whole: Mapping[str, str] | None = None,
    ) -> Prompt:
        """The prompt with its slots filled. Arguments and errors as of `fitted`."""
        _, prompt = self.fitted(texts, max_tokens=max_tokens, document_tokens=document_tokens, whole=whole)
        return prompt

    def fitted(
        self,
        texts: Mapping[str, str],
        *,
        max_tokens: int | None = None,
        document_tokens: int | None = None,
        whole: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], Prompt]:
        """The texts as they were cut to fit, and the prompt with its slots filled by them.

        Args:
            texts: for each slot, by name.
            max_tokens: the most tokens of the whole prompt. Documents share what the rest leaves: each gets as much as
                every other, and what short ones do not need goes to the long ones.
            document_tokens: the most tokens of each document.
            whole: the texts before anybody shortened them; what is cut is counted against them. `texts` by default.

        Raises:
            InputError: when a text is missing or unreadable, or the rest leaves no room for the documents.
        """
        self._check(texts)
        plain, defused = self.plain(texts)
        fitted: Mapping[str, str] = plain
        if document_tokens:
            fitted = self._capped(plain, dict.fromkeys(self._documents, document_tokens))
        prompt = self._put_together(fitted)
        if max_tokens is not None and len(prompt) > max_tokens:
            fitted, prompt = self._fit(fitted, max_tokens)
        before = plain if whole is None else self.plain(whole)[0]
        cut = [name for name in self._documents if fitted[name] != before[name]]
        lost = {name: max(0, self._length(before[name]) - self._length(fitted[name])) for name in cut}
        return fitted, Prompt(prompt.segments, prompt.merged, lost, prompt.recalled, defused)

    def plain(self, texts: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """The texts as they are put into the prompt, and how many special tokens in them were broken up for that.

        What the template itself says keeps its special tokens.
        """
        read = {name: self.borders.texts.special.plain(texts[name]) for name in self.slots}
        return {name: each.text for name, each in read.items()}, sum(len(each.breaks) for each in read.values())

    def whole(self, texts: Mapping[str, str]) -> list[int]:
        """The ids of the whole prompt, encoded at once: what the segments must be."""
        texts, _ = self.plain(texts)
        text = "".join(texts[part.name] if isinstance(part, Slot) else part for part in self.template.parts)
        [ids] = self.borders.texts.encode([text])
        return [*self._before, *ids.tolist(), *self._after]

    @cached_property
    def _documents(self) -> list[str]:
        return [name for name, slot in self.slots.items() if slot.cut]

    def _check(self, texts: Mapping[str, str]) -> None:
        if missing := self.slots.keys() - texts.keys():
            raise InputError(f"the template has slots {sorted(self.slots)}, and no text for {sorted(missing)}")
        for text in texts.values():
            if error := unreadable(text):
                raise error

    def _put_together(self, texts: Mapping[str, str]) -> Prompt:
        filled = [
            "".join(texts[part.name] if isinstance(part, Slot) else part for part in unit) for unit in self._units
        ]
        pieces, merged = self._pieces(filled)
        encoded = self._encoded(pieces)
        segments = [self._before, *(tuple(text.ids.tolist()) for text in encoded), self._after]
        recalled = sum(len(text.ids) for text in encoded if text.recalled)
        prompt = Prompt(tuple(filter(None, segments)), merged, recalled=recalled)
        if self.verify and prompt.ids != (whole := self.whole(texts)):
            return Prompt((tuple(whole),), self._lost + len(filled) - 1)
        return prompt

    def _pieces(self, filled: Sequence[str]) -> tuple[list[str], int]:
        """The texts of a prompt with those joined between which it cannot be cut, and how many borders that took."""
        texts = list(filter(None, filled))
        whole = "".join(texts)
        if not self.segments:
            return [whole], self._lost + max(len(texts) - 1, 0)
        starts, border = [0], 0
        for text in texts[:-1]:
            border += len(text)
            if self.borders.holds(whole, starts[-1], border):
                starts.append(border)
        pieces = [whole[start:end] for start, end in zip(starts, [*starts[1:], len(whole)], strict=True)]
        return pieces, self._lost + len(texts) - len(pieces)

    def _encoded(self, pieces: Sequence[str]) -> list[TextIds]:
        encode, after = self.borders.texts.of, self.borders.after
        first = encode(pieces[:1] if after else pieces, template=True)
        rest = encode(pieces[1:], after=after, template=True) if after else first
        found = [first[piece] if index == 0 else rest[piece] for index, piece in enumerate(pieces)]
        return [ids for ids in found if isinstance(ids, TextIds)]  # what is unreadable was refused before

    def _same(self, texts: Mapping[str, str]) -> bool:
        return self._put_together(texts).ids == self.whole(texts)

    # -- cutting ---------------------------------------------------------------------------------------------------

    def _fit(self, texts: Mapping[str, str], max_tokens: int) -> tuple[Mapping[str, str], Prompt]:
        lengths = {name: self._length(texts[name]) for name in self._documents if texts[name]}
        bare = len(self._put_together({**texts, **dict.fromkeys(self._documents, "")}))
        room = max_tokens - bare
        while room >= max(len(lengths), 1):
            fitted = self._capped(texts, dict(zip(lengths, shares(list(lengths.values()), room), strict=True)))
            prompt = self._put_together(fitted)
            if len(prompt) <= max_tokens and all(fitted[name] for name in lengths):
                return fitted, prompt
            room -= max(len(prompt) - max_tokens, 1)
        raise InputError(
            f"the prompt takes {bare} tokens without its {len(lengths)} documents, which leaves no room for them "
            f"within max_tokens={max_tokens}; shorten the query, allow more tokens, or give fewer documents"
        )

    def _capped(self, texts: Mapping[str, str], most: Mapping[str, int]) -> dict[str, str]:
        return {
            name: self.borders.texts.beginning(text, most[name]) if name in most else text
            for name, text in texts.items()
        }

    def _length(self, text: str) -> int:
        found = self.borders.texts.of([text], template=True)[text]
        return len(found.ids) if isinstance(found, TextIds) else 0

    def _special(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the tokenizer puts in front of a text and behind it; not again what the template begins with."""
        tokenizer = self.borders.texts.tokenizer
        with_special = list(tokenizer([PROBES[0]], verbose=False)["input_ids"][0])
        [plain] = self.borders.texts.encode([PROBES[0]])
        start = next(
            (at for at in range(len(with_special)) if with_special[at : at + len(plain)] == plain.tolist()), None
        )
        if start is None:
            raise InputError(
                "the tokenizer writes a text otherwise when it adds special tokens; say special_tokens=False"
            )
        before, after = tuple(with_special[:start]), tuple(with_special[start + len(plain) :])
        first = self.template.parts[0]
        written = self.borders.texts.encode([first])[0].tolist() if isinstance(first, str) and first else []
        return () if before and written[: len(before)] == list(before) else before, after
