"""PyTerrier: a reranker as a transformer, which composes with `>>`, `%`, `+`, `|` and the rest."""

from __future__ import annotations

from collections.abc import Sequence

from rerank.errors import InputError
from rerank.integrations.texts import check_count, reranker_of
from rerank.io.float32 import strictly_falling
from rerank.registry import extra_for
from rerank.types import Document, Query, Ranking

try:
    import pandas as pd
    import pyterrier as pt
except ModuleNotFoundError as error:
    raise extra_for("the transformer for PyTerrier", "pyterrier") from error

__all__ = ["RerankTransformer"]

COLUMNS = ("qid", "query", "docno")


class RerankTransformer(pt.Transformer):  # type: ignore[misc]
    """Reranks the rows of each query: `bm25 >> pt.text.get_text(dataset) >> RerankTransformer("…") % 10`.

    Takes `qid`, `query`, `docno` and the texts; gives every row back with its new `score` and `rank` (from 0), best
    first, other columns unchanged. All queries are reranked at once, which is where the speed is. Where the method
    measures an order and no scores, or reranks a head alone, the scores fall by 1 from row to row, as PyTerrier wants
    a number that sorts: those say nothing but the order.

    Args:
        reranker: a `Reranker`, a `RemoteReranker`, a pipeline of rerankers, or a name that makes one.
        text_field: the column of the texts.
        cutoff: rerank the first so many rows of each query, by their `rank` where there is one; the others stay below
            in their order. None reranks all.
        instruction: what kind of relevance is meant, for models that read one.

    Raises:
        InputError: when the cutoff is none, or a text is missing.
    """

    def __init__(
        self, reranker: object, *, text_field: str = "text", cutoff: int | None = None, instruction: str = ""
    ) -> None:
        super().__init__()
        check_count("cutoff", cutoff)
        self.reranker, self.text_field, self.cutoff = reranker_of(reranker), text_field, cutoff
        self.instruction = instruction

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows in their new order."""
        pt.validate.result_frame(inp, extra_columns=["query", self.text_field], context=self)
        kept = inp.drop(columns=["score", "rank"], errors="ignore")
        if inp.empty:
            return kept.assign(score=pd.Series(dtype=float), rank=pd.Series(dtype=int))
        numbered = inp.reset_index(drop=True)
        rows = [self._rows(frame) for _, frame in numbered.groupby("qid", sort=False)]
        ranked = self.reranker.rerank([ranking[: self.cutoff] for ranking, _ in rows])
        places: list[int] = []
        scores: list[float] = []
        for best, (ranking, numbers) in zip(ranked, rows, strict=True):
            whole = best.then(ranking.documents[self.cutoff :] if self.cutoff is not None else ())
            places += [numbers[int(document.doc_id)] for document in whole.documents]
            scores += _numbers([candidate.score for candidate in whole])
        found = kept.reset_index(drop=True).iloc[places].reset_index(drop=True)
        return pt.model.add_ranks(found.assign(score=scores))

    def __repr__(self) -> str:
        return f"RerankTransformer({getattr(self.reranker, 'name', type(self.reranker).__name__)!r})"

    def _rows(self, frame: pd.DataFrame) -> tuple[Ranking, list[int]]:
        """A query's rows, those of a better rank first, and the number of each among all rows."""
        ordered = frame.sort_values("rank", kind="stable") if "rank" in frame.columns else frame
        first = ordered.iloc[0]
        query = Query(str(first["qid"]), str(first["query"]), self.instruction)
        documents = [
            Document(str(index), _text(docno, text))
            for index, (docno, text) in enumerate(zip(ordered["docno"], ordered[self.text_field], strict=True))
        ]
        return Ranking.unscored(query, documents), list(ordered.index)


def _text(docno: object, text: object) -> str:
    if not isinstance(text, str):
        raise InputError(f"document {docno!r} has the text {text!r}; fetch it first, with pt.text.get_text")
    return text


def _numbers(scores: Sequence[float | None]) -> list[float]:
    """The scores as they are where all have one; else numbers that fall."""
    known = [score for score in scores if score is not None]
    return known if len(known) == len(scores) else strictly_falling(scores)
