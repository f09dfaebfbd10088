"""The reranker: an algorithm, a judge, and the scheduler between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rerank.algorithms.adaptive import Without
from rerank.calibration import Calibration, check_threshold
from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.scheduler import Scheduler
from rerank.errors import InputError
from rerank.pipeline import NO_EXCLUSIONS, Stage, above, check_cutoff
from rerank.questions import Algorithm, Grade, Judge, Plan
from rerank.rerankers.cascade import Budget, within
from rerank.rerankers.long_documents import LongDocuments, Passage
from rerank.rerankers.options import opened, spelled
from rerank.rerankers.recipe import Recipe, recipe_of
from rerank.types import Document, Query, Ranking

__all__ = ["Reranker"]


class Reranker(Stage):
    """Puts candidates in a better order.

    Args:
        name: a hub id, a folder, or a checkpoint's name (`rerank models list`); its config says what kind of judge it
            is, its checkpoint file which algorithm goes with it. Or a method (`rerank list methods`), which wants
            `model`. May be left out when `judge` is a judge. "PROVIDER:MODEL" and "http://HOST/v1#MODEL" are hosted
            models, which are not loaded but asked (docs/methods/hosted.md); "http://HOST/v1/rerank" and
            "cohere:MODEL" are servers of rerankers (docs/remote.md).
        model: the checkpoint that a method asks: a hub id, a folder, or a checkpoint's name; or a hosted model.
        algorithm: a name (`rerank list algorithms`) or an `Algorithm`; the method's or the checkpoint's by default, and
            pointwise where they say none.
        judge: the name of a judge, to use another than the checkpoint's own; or a judge, which then needs no `name`.
        prompt: what a T5 or a causal language model is asked: a prompt's name (`rerank list prompts`) or a TOML file;
            as the checkpoint's file says by default. It also says which judge asks it, when none is named.
        targets: words whose probability is the answer, the better first; the prompt's by default.
        head, window, step: options of many algorithms: positions to put in order, documents in a question, and how far
            a window moves.
        options: of the algorithm and of the judge, by name: `{"children": 3, "mode": "generation"}`. Each goes to
            whoever takes it, to both where both do; one that nobody takes is refused.
        max_tokens: the most tokens of query and document together; documents are cut at their end, and counted. As
            the checkpoint's file says by default, or as many as the model reads.
        token_budget: the most tokens in a forward pass: speed and memory, not scores.
        device: "cpu", "cuda" …; CUDA where there is one by default.
        dtype: "float32", "bfloat16", "float16"; float32 on the CPU, bfloat16 on CUDA by default. "int8" on the CPU is
            faster and not exact (the `openvino` extra).
        token_store: a folder in which the token ids of texts are kept for later runs; in memory by default.
        compile: torch.compile the model; half a minute at load.
        deterministic: a score's bits do not depend on its batch on CUDA either; on the CPU in float32 they never do.
        quantize: "8bit" or "4bit", by bitsandbytes while it is loaded.
        adapter: folder or hub id of a LoRA adapter, merged at load.
        device_map: "auto", "balanced" or "sequential": spread the layers over all GPUs.
        long_documents: "truncate" cuts documents to `max_tokens` at their end; "first", "max", "sum", "mean" and
            "k-max" ask about windows of them; a `LongDocuments` says more. See docs/long-documents.md.
        window_tokens, stride_tokens: of "first" to "k-max": the most tokens of a window, and from one to the next.
        best_windows: of "k-max": how many windows of a document count.
        preselect, preselected: a cheap checkpoint that chooses which windows are asked about, on the same device, and
            how many of each document (IDCM).
        calibration: a `Calibration`, or a file that `rerank calibrate` wrote: scores become probabilities, in the same
            order. One that was made for another checkpoint or other options is refused.
        threshold: with a calibration: keep only candidates of at least this probability.
        query_pflop, query_seconds: the most that a query may cost, see `rerank.rerankers.cascade.Budget`; documents
            that it leaves out stay below, in their order and unscored, and are counted.
        journal: a file that every answer is appended to and read from, so that an interrupted run can be resumed.

    Raises:
        UnknownName: when nothing has the name.
        CheckpointError: when the checkpoint cannot be had, or is no reranker.
        InputError: when options do not fit together.

    `options` holds the options that were said, by the user, the method or the checkpoint's file.

    `fetches` says that the algorithm brings in documents that are not in the list, as those along a corpus graph do.

    `passages` holds, after `rerank` with windows, query_id -> doc_id -> the window that scored best.

    `ledger` holds what everything so far has cost. A reranker remembers its answers and may be used from any thread;
    with a journal, use it in a `with` statement or call `close`.
    """

    def __init__(
        self,
        name: str | Path | None = None,
        *,
        model: str | Path | None = None,
        algorithm: str | Algorithm | None = None,
        judge: str | Judge | None = None,
        prompt: str | Path | None = None,
        targets: tuple[str, ...] | list[str] | None = None,
        head: int | None = None,
        window: int | None = None,
        step: int | None = None,
        options: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        token_store: str | Path | None = None,
        compile: bool = False,
        deterministic: bool = False,
        quantize: str | None = None,
        adapter: str | Path | None = None,
        device_map: str | None = None,
        long_documents: str | LongDocuments = "truncate",
        window_tokens: int | None = None,
        stride_tokens: int | None = None,
        best_windows: int | None = None,
        preselect: str | Path | None = None,
        preselected: int | None = None,
        calibration: str | Path | Calibration | None = None,
        threshold: float | None = None,
        query_pflop: float | None = None,
        query_seconds: float | None = None,
        journal: str | Path | None = None,
    ) -> None:
        arguments: dict[str, Any] = {
            "model": model,
            "algorithm": algorithm,
            "judge": judge,
            "prompt": prompt,
            "targets": targets,
            "head": head,
            "window": window,
            "step": step,
            "options": options,
            "max_tokens": max_tokens,
            "token_budget": token_budget,
            "device": device,
            "dtype": dtype,
            "token_store": token_store,
            "compile": compile,
            "deterministic": deterministic,
            "quantize": quantize,
            "adapter": adapter,
            "device_map": device_map,
        }
        self.recipe = recipe_of(name, arguments)
        self.name, self.algorithm, self.options = self.recipe.name, self.recipe.algorithm, self.recipe.options
        self.fetches = self.recipe.fetches
        self._asking = opened(self.recipe.asking)
        self.judge = self.recipe.load()
        self.long_documents = _long_documents(
            long_documents,
            window_tokens,
            stride_tokens,
            self.recipe,
            {"best_windows": best_windows, "preselect": preselect, "preselected": preselected},
            device=device,
        )
        self.passages: dict[str, dict[str, Passage]] = {}
        self.budget = None if query_pflop is None and query_seconds is None else Budget(query_pflop, query_seconds)
        _check_budget(self.budget, self.algorithm, self.long_documents)
        self.calibration = _calibration(calibration, threshold, self.scores_key)
        self.threshold = threshold
        self.journal = None if journal is None else Journal(journal)
        self.ledger = Ledger()
        self._note_choices()
        self._scheduler = Scheduler(self.judge, ledger=self.ledger, journal=self.journal)
        if self.journal is not None:
            self.ledger.note("journal", self.journal.history)

    @staticmethod
    def check(name: str | Path | None = None, **arguments: Any) -> None:
        """Refuse arguments that no download could make good; nothing is downloaded or loaded for it.

        Raises:
            UnknownName, InputError, CheckpointError: as the constructor does.
        """
        recipe_of(name, arguments, fetch=False)

    def rerank(
        self,
        rankings: Sequence[Ranking],
        *,
        cutoff: int | None = None,
        budget: Budget | None = None,
        exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS,
        on_answer: Callable[[int, int], None] | None = None,
    ) -> list[Ranking]:
        """Rerank many queries at once, which is where the speed is.

        Args:
            rankings: the candidates, best first; their scores are read by Fusion-in-T5 alone.
            cutoff: rerank the first so many and keep the others below, in their order and unscored; None reranks all.
            budget: the most that each query may cost; by default what the reranker was made with.
            exclude: query_id -> ids of documents that an algorithm which `fetches` must not bring in for it; what the
                rankings hold stays.
            on_answer: called after every answer with (answered, asked so far), for progress bars.

        Returns:
            One ranking for each given, in the order given.

        Raises:
            InputError: when a ranking is empty, the cutoff is below 1, or a query leaves no room for a document;
                nothing has been computed then.
            JudgeError: when a question cannot be answered; everything else has been answered (and journalled) then.
        """
        if cutoff is not None:
            check_cutoff(self.name, cutoff)
        budget = budget or self.budget
        _check_budget(budget, self.algorithm, self.long_documents)
        given = _checked(rankings)
        if (check := getattr(self.judge, "check_queries", None)) is not None:
            check([ranking.query for ranking in given])
        taken = [ranking[:cutoff] for ranking in given]
        ranked = self._ranked(taken, budget, exclude, on_answer)
        rests = [ranking[len(some) :] for some, ranking in zip(taken, given, strict=True)]
        whole = [above(best, rest) for best, rest in zip(ranked, rests, strict=True)]
        if self.calibration is None:
            return whole
        return [self.calibration.apply(ranking, threshold=self.threshold) for ranking in whole]

    def plan(
        self,
        ranking: Ranking,
        *,
        long_documents: str | LongDocuments | None = None,
        window_tokens: int | None = None,
        stride_tokens: int | None = None,
        ledger: Ledger | None = None,
        passages: dict[str, Passage] | None = None,
    ) -> Plan:
        """One query's work, for a scheduler of your own, such as a server's; nothing happens before it is begun.

        It ends with the ranking that `rerank` gives of the same candidates, to the bit, but for the calibration: its
        scores are what was measured.

        Args:
            ranking: the candidates, best first.
            long_documents, window_tokens, stride_tokens: as of the constructor; by default what was said there.
            ledger: the scheduler's; the reranker's own by default.
            passages: doc_id -> the window that scored best; filled in, where documents are asked about in windows.

        Raises:
            InputError: when the ranking is empty or the query leaves no room for a document, at its first step.
        """
        windows, bill = self.long_documents, ledger or self.ledger
        if long_documents is not None or (window_tokens, stride_tokens) != (None, None):
            windows = _long_documents(
                long_documents or windows or "truncate", window_tokens, stride_tokens, self.recipe
            )
            _check_budget(self.budget, self.algorithm, windows)
        [given] = _checked([ranking])
        if (check := getattr(self.judge, "check_queries", None)) is not None:
            check([given.query])
        if windows is None:
            return (yield from self._begun(given, self.budget, bill))
        return (yield from windows.plan(given, self.judge, lambda some: self._begun(some, None, bill), bill, passages))

    def _begun(self, ranking: Ranking, budget: Budget | None, ledger: Ledger, exclude: Collection[str] = ()) -> Plan:
        if budget is not None:
            return within(budget, ranking, ledger)
        return self.algorithm(ranking, **self._asked_without(exclude))

    def carry(self, plans: Iterable[Plan], *, on_answer: Callable[[int, int], None] | None = None) -> list[Ranking]:
        """Run plans of your own by this reranker's judge, with its memory, its journal and its bill.

        Args:
            plans: algorithms at work, each on one query; they may ask what the judge answers.
            on_answer: as of `rerank`.

        Raises:
            RerankError: as `Scheduler.run` does.
        """
        return self._scheduler.run(plans, on_answer=on_answer)

    def _ranked(
        self,
        rankings: list[Ranking],
        budget: Budget | None,
        exclude: Mapping[str, Collection[str]],
        on_answer: Callable[[int, int], None] | None,
    ) -> list[Ranking]:
        def ask(pieces: list[Ranking]) -> list[Ranking]:
            plans = (self._begun(piece, budget, self.ledger, exclude.get(piece.query.query_id, ())) for piece in pieces)
            return self._scheduler.run(plans, on_answer=on_answer)

        if self.long_documents is None:
            return ask(rankings)
        ranked, self.passages = self.long_documents.rank(rankings, self.judge, ask, self.ledger)
        return ranked

    def rank(self, query: str | Query, documents: Sequence[str | Document], *, top: int | None = None) -> Ranking:
        """Rank documents for one query.

        Args:
            query: its text, or a `Query` with an id and an instruction.
            documents: texts, which get their index as id ("0", "1", …), or `Document`s, which keep theirs.
            top: return only the best so many; None returns all.

        >>> from rerank.judges.fake import Oracle
        >>> reranker = Reranker(judge=Oracle({"query": {"1": 1}}))
        >>> reranker.rank("what is a reranker?", ["text one", "text two"])[0].document.text
        'text two'
        """
        if top is not None:
            check_cutoff(self.name, top)
        if isinstance(documents, str | bytes):
            raise InputError(f"documents is {documents[:40]!r}, one text; give a list of texts")
        asked = query if isinstance(query, Query) else Query("query", query)
        given = [
            document if isinstance(document, Document) else _document(index, document)
            for index, document in enumerate(documents)
        ]
        [ranking] = self.rerank([Ranking.unscored(asked, given)])
        return ranking[:top]

    def _asked_without(self, doc_ids: Collection[str]) -> dict[str, Any]:
        """Options of the algorithm, by which it does not come to these documents."""
        if not (self.fetches and doc_ids):
            return self._asking
        return {**self._asking, "graph": Without(self._asking["graph"], doc_ids)}

    @property
    def scores_key(self) -> str:
        """What makes scores mean the same: the judge (weights, tokenizer and options), the algorithm with its options,
        and the windows."""
        windows = "" if self.long_documents is None else f" {self.long_documents.description}"
        return f"{self.judge.key} {self.recipe.changed}{windows}"

    def close(self) -> None:
        """Let go of the journal, and of the connections to a server; what was answered is on the disk."""
        self._scheduler.close()
        if self.recipe.hosted:
            self.judge.close()  # type: ignore[attr-defined]
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        said = {name: value for name, value in self.options.items() if name not in self.recipe.asking}
        judge = f"{type(self.judge).__name__}({spelled(said)})" if said else type(self.judge).__name__
        return f"<Reranker {self.name}: {self.recipe.changed} with {judge}>"

    def _note_choices(self) -> None:
        """What the ledger tells of the reranker itself; the judge tells of the model."""
        if self.recipe.method:
            self.ledger.note("method", self.recipe.method)
        self.ledger.note("algorithm", self.recipe.described)


def _checked(rankings: Iterable[Ranking]) -> list[Ranking]:
    if isinstance(rankings, Ranking | Mapping):
        raise InputError(f"rankings is one {type(rankings).__name__}; give a list of rankings")
    given = list(rankings)
    for ranking in given:
        if not isinstance(ranking, Ranking):
            raise InputError(f"{ranking!r} is no Ranking; make one with Ranking.unscored(query, documents)")
        if not ranking:
            raise InputError(f"query {ranking.query.query_id!r} has no candidates; leave it out")
    return given


def _document(index: int, text: object) -> Document:
    if not isinstance(text, str):
        raise InputError(f"document {index} is {text!r}; it must be a text or a Document")
    return Document(str(index), text)


def _long_documents(
    asked: str | LongDocuments,
    window: int | None,
    stride: int | None,
    recipe: Recipe,
    more: Mapping[str, Any] = MappingProxyType({}),
    *,
    device: str | None = None,
) -> LongDocuments | None:
    """How documents are cut into windows; None when they are truncated. `more` as the constructor names it."""
    if (isinstance(asked, LongDocuments) or asked == "truncate") and (window, stride) != (None, None):
        raise InputError(f"window_tokens and stride_tokens are of no use to long_documents={asked!r}; leave them out")
    said = {name: value for name, value in more.items() if value is not None}
    _check_windows(asked, said)
    if asked == "truncate":
        return None
    if recipe.algorithm.asks != {Grade}:
        raise InputError(
            f"windows of documents need a score each, and {recipe.algorithm.name} gives none; use pointwise"
        )
    if recipe.fetches:
        raise InputError(
            f"{recipe.algorithm.name} follows documents, and would not find windows of them in its graph; "
            "use long_documents='truncate'"
        )
    if isinstance(asked, LongDocuments):
        return asked
    counts = {name: said[key] for key, name in COUNTS.items() if key in said}
    policy = LongDocuments(asked, window, stride, **counts)  # wrong numbers are told before a model is loaded
    cheap = said.get("preselect")
    return policy if cheap is None else replace(policy, preselect=Reranker(cheap, device=device))


COUNTS = {"best_windows": "best", "preselected": "preselected"}


def _check_windows(asked: str | LongDocuments, said: Mapping[str, Any]) -> None:
    """Refuse what says nothing about these windows."""
    if said and (isinstance(asked, LongDocuments) or asked in ("truncate", "first")):
        raise InputError(f"{', '.join(said)}: of no use to long_documents={asked!r}; leave out what is")
    if "best_windows" in said and asked != "k-max":
        raise InputError(
            f"best_windows={said['best_windows']} is of long_documents='k-max', and of no use to {asked!r}"
        )
    if "preselected" in said and "preselect" not in said:
        raise InputError(
            f"preselected={said['preselected']}, and nobody preselects; give preselect= a cheap checkpoint"
        )


def _check_budget(budget: Budget | None, algorithm: Algorithm, long_documents: LongDocuments | None) -> None:
    if budget is not None and (algorithm.name != "pointwise" or long_documents is not None):
        raise InputError(
            f"a budget is spent document by document, which {algorithm.name if long_documents is None else 'windows'} "
            "cannot be; use pointwise and long_documents='truncate'"
        )


def _calibration(
    asked: str | Path | Calibration | None, threshold: float | None, scores_key: str
) -> Calibration | None:
    """The calibration, known to be of these scores."""
    check_threshold(threshold)
    if asked is None:
        if threshold is not None:
            raise InputError(
                f"threshold={threshold} is a probability and needs a calibration; `rerank calibrate` makes one"
            )
        return None
    calibration = asked if isinstance(asked, Calibration) else Calibration.load(asked)
    calibration.check(scores_key)
    return calibration
