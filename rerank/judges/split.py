"""Cross-encoders whose lower layers read query and document apart, so that a document's share of them is kept."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from rerank import checkpoints
from rerank.engine import batches, packing
from rerank.engine.encoder import Scored, usual_budget
from rerank.engine.encoders.split import SplitEncoder
from rerank.engine.flops_estimate import Shape
from rerank.engine.kept import Kept, KeptTensors
from rerank.engine.loading import Loading, load, longest_input
from rerank.engine.texts.text_tokens import store_for
from rerank.engine.tokens import Pair, PairTokens
from rerank.engine.windows import document_windows
from rerank.errors import CheckpointError, InputError, JudgeError
from rerank.judges.cross_encoder import scale_of, score_of
from rerank.questions import Bill, Grade, Graded, Question
from rerank.types import Document, Query

__all__ = ["Split"]


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """A pair as both halves of the model read it."""

    query: Pair
    document: Pair

    @property
    def tokens(self) -> int:
        """Of both."""
        return len(self.query.ids) + len(self.document.ids)


class Split:
    """A cross-encoder whose first `split` layers keep query and document apart: PreTTR (MacAvaney et al., 2020,
    https://arxiv.org/abs/2004.14255), DeFormer (Cao et al., 2020, https://arxiv.org/abs/2005.00697), and the modules of
    MORES (Gao et al., 2020, https://aclanthology.org/2020.emnlp-main.342/).

    With `split=0` it is the cross-encoder. A checkpoint must have been trained with the same mask in its lower layers:
    one that was not loses quality with every layer that is split, see docs/methods/late-interaction.md.

    Args:
        folder: the checkpoint, a cross-encoder.
        split: how many layers read query and document apart.
        query_tokens: how many places a query takes, whatever its length: documents then begin at one place, and what
            was kept of them serves all queries. By default a document begins behind its query, as in the
            cross-encoder, and serves queries of the same length.
        max_tokens, token_budget, device, dtype, token_store: as of `CrossEncoder`.
        kept_megabytes: of states in memory, in MiB.

    Raises:
        CheckpointError: when the folder holds no cross-encoder.
        InputError: when an option does not fit the model or the machine.
    """

    answers: ClassVar[frozenset[type]] = frozenset({Grade})
    reads_ids: ClassVar[bool] = False
    scoring: ClassVar[str] = "split 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        split: int = 0,
        query_tokens: int | None = None,
        max_tokens: int | None = None,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        token_store: str | Path | None = None,
        kept_megabytes: int = 1024,
    ) -> None:
        self.folder = Path(folder)
        if (kind := checkpoints.kind(self.folder)) != "cross-encoder":
            raise CheckpointError(f"{self.folder} is of kind {kind}, and only cross-encoders can be split")
        loaded = load(self.folder, "classifier", Loading(device, dtype))
        longest = longest_input(loaded.model, loaded.tokenizer)
        self.max_tokens = longest if max_tokens is None else max_tokens
        if not 1 <= self.max_tokens <= longest or (token_budget is not None and token_budget < 1):
            raise InputError(
                f"max_tokens={max_tokens} and token_budget={token_budget}: {self.folder.name} reads from 1 to "
                f"{longest} tokens, and a forward pass needs at least 1"
            )
        if query_tokens is not None and not 1 <= query_tokens < self.max_tokens:
            raise InputError(f"query_tokens={query_tokens} leaves no place for a document among {self.max_tokens}")
        self.query_tokens, self.split = query_tokens, split
        self.loaded_as, self.shape = loaded.choices, Shape.of(loaded.model.config)
        self.budget = batches.Budget(token_budget or usual_budget(loaded.model.device.type))
        self.tokens = PairTokens(loaded.tokenizer, self.max_tokens, store_for(loaded.tokenizer, token_store))
        self.scale = scale_of(loaded.model.config.num_labels)
        self.encoder = SplitEncoder(loaded.model, split)
        self.kept = KeptTensors(kept_megabytes)
        self.key = self._key(str(loaded.model.dtype))

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Graded | Exception]]:
        """Grade pairs, batch by batch; what was made of a query or a document before is not made again."""
        for name, value in self.choices.items():
            bill.note(name, value)
        grades = [question for question in questions if isinstance(question, Grade)]
        read = {index: self._halves(grade) for index, grade in enumerate(grades)}
        yield from ((index, error) for index, error in read.items() if isinstance(error, InputError))
        halves = {index: each for index, each in read.items() if isinstance(each, Halves)}
        indices = list(halves)

        def score(batch: list[int]) -> tuple[Scored, list[int], float]:
            started = time.perf_counter()
            scored, reused = self._scored([halves[indices[place]] for place in batch])
            return scored, reused, time.perf_counter() - started

        lengths = [halves[index].tokens for index in indices]
        for batch, (scored, reused, seconds) in batches.run(lengths, self.budget, packing.in_order, score, bill):
            asked = [(indices[place], grades[indices[place]], halves[indices[place]].document) for place in batch]
            self._charge(asked, [lengths[place] for place in batch], scored, reused, seconds, bill)
            for (index, _, _), logits in zip(asked, scored.logits.tolist(), strict=True):
                yield index, _graded(logits)

    def windows(
        self, query: Query, document: Document, *, max_tokens: int | None = None, stride: int | None = None
    ) -> list[Document]:
        """The document in pieces that fit beside the query; see `rerank.engine.windows.document_windows`."""
        return document_windows(self.tokens, query, document, window=max_tokens, stride=stride)

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen at load, for the ledger."""
        return {
            "weights": checkpoints.origin(self.folder),
            **self.loaded_as,
            "execution": f"{self.encoder.execution}, {self.split} layers apart",
            "max tokens": str(self.max_tokens),
            "token budget": str(self.budget.tokens),
            "kept": f"states after {self.split} layers, at most {self.kept.most // 2**20} MiB",
        }

    def _halves(self, grade: Grade) -> Halves | InputError:
        [pair] = self.tokens.pairs([grade.query.text], [grade.document.full_text])
        if isinstance(pair, InputError):
            return pair
        try:
            border = self.tokens.border(grade.query.text)
        except InputError as error:
            return error
        return self._placed(pair, border)

    def _placed(self, pair: Pair, border: int) -> Halves | InputError:
        """The halves of a pair; where queries have a number of places, the document's end is cut to the rest."""
        start = border if self.query_tokens is None else self.query_tokens
        if start < border:
            return InputError(f"the query takes {border} tokens, and query_tokens={self.query_tokens}; allow more")
        ids, types = pair.ids[border:], pair.types[border:]
        over = max(0, start + len(ids) - self.max_tokens)
        if over:  # the end token stays
            end = len(ids) - 1
            ids, types = (part[[*range(end - over), end]] for part in (ids, types))
        document = replace(pair, ids=ids, types=types, cut=pair.cut + over, start=start)
        return Halves(Pair(pair.ids[:border], pair.types[:border]), document)

    def _scored(self, halves: Sequence[Halves]) -> tuple[Scored, list[int]]:
        """Logits, and how many tokens of each pair had states already."""
        parts = {_key(part): part for each in halves for part in (each.query, each.document)}
        recalled = dict(zip(parts, self.kept.recall(list(parts)), strict=True))
        states = {key: kept.tensor for key, kept in recalled.items() if kept is not None}
        missing = {key: part for key, part in parts.items() if key not in states}
        made, padded, flops = self.encoder.states(list(missing.values())) if missing else ([], 0, 0)
        self.kept.keep({key: Kept(each, len(each)) for key, each in zip(missing, made, strict=True)})
        reused = [_reused(each, missing) for each in halves]
        states |= dict(zip(missing, made, strict=True))
        scored = self.encoder.score([(states[_key(each.query)], states[_key(each.document)]) for each in halves])
        return Scored(scored.logits, scored.padded + padded, scored.flops + flops), reused

    def _charge(
        self,
        asked: Sequence[tuple[int, Grade, Pair]],
        lengths: Sequence[int],
        scored: Scored,
        reused: Sequence[int],
        seconds: float,
        bill: Bill,
    ) -> None:
        """Each query pays for its tokens; the call and its filler are charged to the first query in it."""
        total = sum(lengths)
        bill.charge(asked[0][1].query.query_id, calls=1, tokens_padded=scored.padded)
        left = scored.flops
        for place, (_, grade, document) in enumerate(asked):
            share = left if place == len(asked) - 1 else scored.flops * lengths[place] // total
            left -= share
            amounts = {"tokens_real": lengths[place], "flops": share, "seconds": seconds * lengths[place] / total}
            if reused[place]:
                amounts["tokens_reused"] = reused[place]
            if document.recalled:
                amounts["tokens_recalled"] = document.recalled
            if document.defused:
                amounts["special_tokens_defused"] = document.defused
            if document.cut:
                amounts |= {"truncated_documents": 1, "truncated_tokens": document.cut}
            bill.charge(grade.query.query_id, **amounts)

    def _key(self, dtype: str) -> str:
        parts = [
            self.scoring,
            checkpoints.fingerprint(self.folder),
            f"split={self.split} query_tokens={self.query_tokens} max_tokens={self.max_tokens}",
            f"{dtype} {self.encoder.device.type} {self.encoder.execution}",
        ]
        return f"split-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def _key(part: Pair) -> bytes:
    """Of what decides a part's states: its tokens, their types, and where it begins."""
    digest = hashlib.blake2b(part.ids.tobytes(), digest_size=16, key=part.start.to_bytes(8, "little"))
    digest.update(part.types.tobytes())
    return digest.digest()


def _graded(logits: list[float]) -> Graded | Exception:
    if all(map(math.isfinite, logits)):
        return Graded(score_of(logits))
    return JudgeError(f"the model gave {logits}; a score must be finite")


def _reused(halves: Halves, made: dict[bytes, Pair]) -> int:
    """Tokens whose states were there; of a part that several pairs of a batch share, the first one computed them."""
    return sum(len(part.ids) for part in (halves.query, halves.document) if made.get(_key(part)) is not part)
