"""T5 and its kin, run for ranking: many texts encoded in one row, one decoder step, a few rows of the output head.

Three ways of running a model, chosen by its device:

- `packed` (CPU): texts of a batch in one row without padding (`t5.encoder`), the decoder over `DECODER_ROWS` rows at a
  time, each of which attends to its own states. In float32 the bits of a score do not depend on its batch, its order,
  its neighbours, or on one or two threads.
- `varlen` (CUDA): the same row of texts through the `varlen_attention` op, the decoder over a rectangle of texts of
  similar length. `deterministic=True` gives every product a shape that the batch does not change.
- `padded`: transformers' own encoder over a rectangle of texts.

All fold the decoder's cross-attention into its queries (`t5.decoder`), and the output head is float32 in all.
Fusion-in-decoder is the same thing with several texts under one decoder row: the states of a group follow each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rerank.engine.packing import by_length, in_order
from rerank.engine.streams import parts_of, side_by_side
from rerank.engine.t5.across import Across
from rerank.engine.t5.choice import Allowed, Sampling
from rerank.engine.t5.decoder import DECODER_ROWS, FoldedDecoder
from rerank.engine.t5.encoder import Work, rectangle
from rerank.engine.t5.head import OutputHead
from rerank.engine.t5.memory import PaddedMemory, RaggedMemory, WatchedMemory
from rerank.engine.t5.model import check_t5
from rerank.engine.t5.results import Encoded, Likelihood, Read, Scored, Written
from rerank.engine.t5.texts import Groups, TextEncoder, check_ids, compare
from rerank.engine.t5.writing import Writer
from rerank.errors import InputError, JudgeError

__all__ = ["Encoded", "EncoderDecoder", "Likelihood", "Sampling", "Scored", "TextEncoder", "Written"]


POSITIONS = 1024  # decoder positions of a pass that reads texts of their own; each holds heads · dim numbers of a query
RECTANGLE = 65_536  # encoder states of a rectangle that decoder rows attend to, padding included


class EncoderDecoder:
    """A T5, mT5, Flan-T5 or UMT5 that scores and writes.

    Args:
        model: a transformers `…ForConditionalGeneration` in evaluation mode, on its device.
        mode: `packed`, `varlen` or `padded`; by default chosen by the device.
        deterministic: give a text the same bits whatever its batch. `packed` in float32 always does; `varlen` does it
            in passes of one shape when asked to; the others cannot.
        across: lets the texts of a group see each other in the encoder (Fusion-in-T5).

    Raises:
        CheckpointError: when the model is of another family, in float16, in training, or its layers are not plain; or
            when it scores two texts otherwise than its own forward does, which is tried at load.
        InputError: when there is no such mode, or it cannot be deterministic.
    """

    def __init__(
        self,
        model: Any,
        *,
        mode: str | None = None,
        deterministic: bool | None = None,
        across: Across | None = None,
    ) -> None:
        check_t5(model)
        self.model = model
        self.device: torch.device = model.device
        probes = [[5, 6, 7, 8, 9], [9, 8, 7]]
        expected = self._stock(probes)
        self._texts = TextEncoder(model, mode=mode, deterministic=deterministic)
        self.mode, self.deterministic = self._texts.mode, self._texts.deterministic
        self._settled = self.mode == "packed" or self.deterministic
        fused = self.execution.endswith("fused linear layers")
        self._divides = fused and self.mode == "packed"  # products that respect a thread's number of threads
        self._decoder = FoldedDecoder(model, fused=fused, settled=self._settled)
        self._head = OutputHead(model)
        compare(self.score(probes, range(10), prefix=[0]).logits, expected, model, "folded decoder")
        self._texts.across = across  # now that it was seen to be right without

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self._texts.execution

    @property
    def packs(self) -> bool:
        """True when a batch costs what its tokens cost, whatever their lengths."""
        return self._texts.packs

    def encode(self, texts: Sequence[Sequence[int]]) -> Encoded:
        """As `TextEncoder.encode`."""
        return self._texts.encode(texts)

    def score(
        self, texts: Sequence[Sequence[int]], targets: Sequence[int], *, prefix: Sequence[int] | None = None
    ) -> Scored:
        """Logits of the next token after a decoder prefix, for each text.

        Args:
            texts: encoder ids of each, end token included where the template wants one.
            targets: ids whose logits are wanted, for instance those of "true" and "false".
            prefix: decoder ids read before, the start token first; by default the start token alone.

        Raises:
            InputError: when a text is empty or an id is not in the vocabulary.
            JudgeError: when the model gives NaN or an infinity; names the text's index.
        """
        return self.score_groups([[text] for text in texts], targets, prefix=prefix)

    @torch.inference_mode()
    def score_groups(
        self, groups: Groups, targets: Sequence[int], *, prefix: Sequence[int] | None = None, apart: bool = False
    ) -> Scored:
        """The same where one decoder reads a whole group of texts, each encoded on its own (fusion in decoder).

        Args:
            groups: encoder ids of the texts of each.
            targets, prefix: as of `score`.
            apart: each text has a decoder of its own, and logits, after all: what makes them a group is that the
                encoder lets them see each other (`across`).
        """
        prefix = self._prefix(prefix)
        check_ids(self.model, "targets", targets)
        self._texts.check(groups)
        threads = torch.get_num_threads() if self._divides else 1
        divided = parts_of([sum(map(len, group)) for group in groups], threads)
        if len(divided) > 1:  # each on a thread of its own, encoder and decoder
            parts = side_by_side(lambda part: self._scored(groups[part], targets, prefix, apart), divided, threads)
        else:
            parts = [self._scored(groups, targets, prefix, apart)]
        logits = torch.cat([part.logits for part in parts])
        _check_finite(logits)
        return Scored(
            logits,
            sum(part.tokens for part in parts),
            sum(part.padded for part in parts),
            sum(part.flops for part in parts),
        )

    def _scored(self, groups: Groups, targets: Sequence[int], prefix: Sequence[int], apart: bool) -> Scored:
        work = Work()
        states = self._texts.states(groups, work)
        if apart:
            states = [*itertools.chain.from_iterable(map(_by_text, groups, states))]
        head = self._head.rows(targets)
        parts = self._parts([len(state) for state in states])
        logits = [torch.empty(0, len(targets), device=self.device)]
        for part in parts:
            memory = self._memory([states[index] for index in part])
            hidden = self._decoder.after(prefix, self._rows(len(part)), memory, work)
            logits.append(self._head.read(hidden, head, work)[: len(part)])
        told = _in_order(torch.cat(logits).cpu(), parts)  # the one transfer
        tokens = sum(map(len, states))
        return Scored(told, tokens, work.rows - tokens, work.flops)

    @torch.inference_mode()
    def likelihood(
        self,
        texts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        prefix: Sequence[int] | None = None,
    ) -> Likelihood:
        """How likely the decoder finds a continuation of each text: what query likelihood adds up.

        The mean of a text's numbers is minus the loss that transformers computes with the continuation as `labels`.

        Args:
            texts: encoder ids of each, end token included where the template wants one.
            continuations: decoder ids of each, without the prefix; with an end token if its likelihood is wanted.
            prefix: decoder ids read before, the start token first; by default the start token alone.

        Raises:
            InputError: when there are not as many continuations as texts, one of either is empty, or an id is not in
                the vocabulary.
            JudgeError: when the model gives NaN or an infinity; names the text's index.
        """
        prefix = self._prefix(prefix)
        self._check_continuations(texts, continuations)
        work = Work()
        states = self._texts.states([[text] for text in texts], work)
        told: list[Tensor] = []
        parts = self._forced_parts([len(each) + len(prefix) - 1 for each in continuations])
        for part, folded in parts:
            memory = self._memory([states[index] for index in part])
            chosen = [[*continuations[index]] for index in part]
            read = [[*prefix, *each[:-1]] for each in chosen]
            hidden = self._decoder.forced(read, memory, work, folded=folded)
            told.append(self._head.log_probs(_without_prefix(hidden, read, len(prefix) - 1), chosen, work))
        flat = torch.cat([*told, torch.empty(0, device=self.device)]).cpu()  # the one transfer
        order = [index for part, _ in parts for index in part]
        split = dict(zip(order, torch.split(flat, [len(continuations[index]) for index in order]), strict=True))
        log_probs = tuple(split[index] for index in range(len(texts)))
        for index, one in enumerate(log_probs):
            _check_finite(one[None], index)
        tokens = sum(map(len, states))
        return Likelihood(log_probs, tokens, work.rows - tokens, work.flops)

    @torch.inference_mode()
    def generate(
        self,
        groups: Groups,
        *,
        max_tokens: int,
        allowed: Allowed | None = None,
        prefix: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        samples: int = 1,
        slots: int = DECODER_ROWS,
        budget: int = 8192,
    ) -> Written:
        """Write one token after the other, until an end token, for each group of texts.

        At most `slots` texts are written at a time; the next takes a slot in the step after one has ended. The text of
        a group does not depend on its neighbours.

        Args:
            groups: encoder ids of the texts under each decoder; a group of one text is a plain T5.
            max_tokens: the most to write, at least 1; meant for up to about 100.
            allowed: the only ids that may be written, an end token among them if the text shall end: ids for all, or a
                function of (index of the group, ids written so far). All by default.
            prefix: decoder ids read before, the start token first; by default the start token alone.
            sampling: how tokens are drawn; by default the most likely is taken, of equal ones the lowest.
            samples: texts to draw for each group, which is encoded once; they follow each other, and each has a seed.
            slots: decoder rows at work, at least 1; they bound what is kept of texts being written.
            budget: encoder tokens of a pass, which bounds what is kept of those that wait.

        Raises:
            InputError: when a text is empty, an id is not in the vocabulary, or nothing may be written.
            JudgeError: when the model gives NaN or an infinity; names the group's index.
        """
        count = len(groups) * samples
        if samples < 1 or (samples > 1 and sampling is None):
            raise InputError(f"samples={samples}; it is at least 1, and more than 1 wants sampling")
        if sampling is not None and len(sampling.seeds) != count:
            raise InputError(f"there are {len(sampling.seeds)} seeds for {count} texts; give one for each")
        work, tokens = Work(), [0]
        writer = self._writer(count, slots, max_tokens, self._prefix(prefix), self._allowed(allowed), sampling)
        encoded = self._encoded(groups, budget, work, tokens)
        texts = writer.write((states for states in encoded for _ in range(samples)), work)
        return Written(texts, writer.steps, tokens[0], work.rows - tokens[0], work.flops)

    @torch.inference_mode()
    def read(
        self,
        groups: Groups,
        *,
        skip: Sequence[int],
        max_tokens: int,
        prefix: Sequence[int] | None = None,
        slots: int = DECODER_ROWS,
    ) -> Read:
        """Write for each group, and tell how much of each of its texts was read for that: LiT5-Score's relevance.

        The probability that a token gets in cross-attention times the length of its value, the mean over heads, summed
        over layers, over the tokens written (the end included, where the text has one) and over the text's own tokens;
        divided by 256 and by the number of layers, as published (https://arxiv.org/abs/2312.16098).

        Args:
            groups, max_tokens, prefix, slots: as of `generate`.
            skip: for each group, how many tokens at the beginning of every text do not count (the query's).

        Raises:
            InputError, JudgeError: as of `generate`.
        """
        work, start = Work(), self._prefix(prefix)
        states = self._texts.states(groups, work)
        writer = self._writer(len(groups), slots, max_tokens, start, None, None)
        texts = writer.write(iter(states), work)
        memory = WatchedMemory(states)
        self._decoder.forced([[*start, *ids[:-1]] for ids in texts], memory, work, folded=False)
        whole = 256 * len(self.model.decoder.block)
        shares = [
            torch.stack([part[lost:].sum() for part in _by_text(group, row)]) / whole
            for group, row, lost in zip(groups, memory.read, skip, strict=True)
        ]
        tokens = sum(map(len, states))
        return Read(tuple(one.cpu() for one in shares), texts, writer.steps, tokens, work.rows - tokens, work.flops)

    # -- passes ----------------------------------------------------------------------------------------------------

    def _encoded(self, groups: Groups, budget: int, work: Work, tokens: list[int]) -> Iterator[Tensor]:
        """The states of each group, encoded a batch at a time when the first of it is wanted."""
        if not all(groups):  # here, because the batch would give another index
            raise InputError(f"group {[*map(len, groups)].index(0)} has no texts; leave it out")
        for batch in in_order([sum(map(len, group)) for group in groups], budget):
            for states in self._texts.states([groups[index] for index in batch], work):
                tokens[0] += len(states)
                yield states

    def _writer(
        self,
        count: int,
        slots: int,
        limit: int,
        prefix: Sequence[int],
        allowed: Allowed | None,
        sampling: Sampling | None,
    ) -> Writer:
        for name, value in (("max_tokens", limit), ("slots", slots)):
            if value < 1:
                raise InputError(f"{name}={value} leaves nothing to write; choose at least 1")
        return Writer(
            self._decoder,
            self._head,
            self._memory([]),
            rows=self._rows(min(slots, max(1, count))),
            slots=slots,
            prefix=prefix,
            limit=limit,
            ends=self._ends(),
            allowed=allowed,
            sampling=sampling,
        )

    def _rows(self, count: int) -> int:
        """Decoder rows that are computed for so many texts."""
        return -(-count // DECODER_ROWS) * DECODER_ROWS if self._settled else count

    def _parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Texts or groups that one pass of the decoder serves."""
        if self._settled:
            starts = range(0, len(lengths), DECODER_ROWS)
            return [[*range(start, min(start + DECODER_ROWS, len(lengths)))] for start in starts]
        return by_length(lengths, RECTANGLE) if lengths else []

    def _forced_parts(self, counts: Sequence[int]) -> list[tuple[list[int], bool]]:
        """Texts that one pass of the decoder serves, and whether its cross-attention is folded: by each text's own
        positions, so that no neighbour changes how a text is computed."""
        parts = []
        for folded in (True, False):
            some = [index for index, count in enumerate(counts) if (count <= self._decoder.folds_up_to) == folded]
            for part in in_order([counts[index] for index in some], POSITIONS) if some else []:
                parts.append(([some[place] for place in part], folded))
        return parts

    def _memory(self, states: Sequence[Tensor]) -> RaggedMemory | PaddedMemory:
        return RaggedMemory(states) if self._settled else PaddedMemory(states)

    # -- what may be asked -----------------------------------------------------------------------------------------

    def _allowed(self, allowed: Allowed | None) -> Allowed | None:
        """The ids that may be written, ascending, so that a tie goes to the lowest."""
        if allowed is None or callable(allowed):
            return allowed
        ids = sorted(set(allowed))
        if not ids:
            raise InputError("allowed=[] lets nothing be written; name at least one id, or None for all")
        check_ids(self.model, "allowed", ids)
        return ids

    def _check_continuations(self, texts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> None:
        if len(texts) != len(continuations):
            raise InputError(f"there are {len(continuations)} continuations for {len(texts)} texts; give one for each")
        for index, ids in enumerate(continuations):
            if not ids:
                raise InputError(f"continuation {index} has no tokens, so it has no likelihood; leave it out")
        check_ids(self.model, "continuations", [*itertools.chain.from_iterable(continuations)])

    def _ends(self) -> frozenset[int]:
        end = self.model.config.eos_token_id
        return frozenset(end) if isinstance(end, list) else frozenset({end})

    def _prefix(self, prefix: Sequence[int] | None) -> list[int]:
        start: int | None = getattr(self.model.config, "decoder_start_token_id", None)
        if prefix is None:
            if start is None:
                raise InputError("this checkpoint names no decoder_start_token_id; give the decoder's prefix")
            prefix = [start]
        ids = list(prefix)
        if not ids:
            raise InputError("prefix=[] gives the decoder nothing to read; it begins with the start token")
        check_ids(self.model, "prefix", ids)
        return ids

    # -- at load ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _stock(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Logits of the first ten ids after id 0, from the model's own forward."""
        start = torch.zeros(len(texts), 1, dtype=torch.long, device=self.device)
        ids, mask = rectangle(texts, self.device)
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, decoder_input_ids=start).logits
        return logits[:, -1, :10].float().cpu()


def _by_text(group: Sequence[Sequence[int]], rows: Tensor) -> tuple[Tensor, ...]:
    """What belongs to each text of a group: [its tokens, …]."""
    return torch.split(rows, [*map(len, group)])


def _in_order(rows: Tensor, parts: Sequence[Sequence[int]]) -> Tensor:
    """Rows that came in parts, as they were asked for."""
    output = torch.empty_like(rows)
    output[[index for part in parts for index in part]] = rows
    return output


def _check_finite(rows: Tensor, first: int = 0) -> None:
    """Refuse what is no number: [texts, numbers]."""
    if not rows.isfinite().all():
        index = int((~rows.isfinite()).any(-1).nonzero()[0])
        [value, *_] = rows[index][~rows[index].isfinite()].tolist()
        raise JudgeError(
            f"text {first + index}: the model gave {value}, which is no finite number; try dtype='float32'"
        )


def _without_prefix(hidden: Tensor, read: Sequence[Sequence[int]], count: int) -> Tensor:
    """Hidden states of the positions that predict a continuation, without those inside the prefix."""
    if not count:
        return hidden
    return torch.cat([rows[count:] for rows in torch.split(hidden, [*map(len, read)])])
