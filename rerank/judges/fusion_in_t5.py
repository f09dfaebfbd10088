"""Fusion-in-T5: grades of documents that see each other, and how the stage before scored them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank import checkpoints
from rerank.engine.loading import Loading
from rerank.errors import CheckpointError, InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.prompted import PromptedJudge
from rerank.judges.sequence_text import SequenceText
from rerank.judges.target_words import target_ids
from rerank.judges.text_models import TextModel
from rerank.prompts.prompt import Prompt
from rerank.questions import GradedSet, GradeSet, Question

__all__ = ["FusionInT5"]


class FusionInT5(PromptedJudge):
    """Fusion-in-T5 (Yu et al., 2023, https://arxiv.org/abs/2305.14685).

    Each document is a text of its own, with its title and the score of the stage before (its place between the list's
    lowest and highest, 0 to 100). In the last encoder layers the first tokens of all texts see each other; the grade is
    the logit of "true" after one step of the decoder, over the document's own text. Documents are cut to fit, the
    prompt's end never is, and neither is the query, of which the published code keeps 64 characters.

    Args:
        folder: a checkpoint of kind "fusion-in-t5"; docs/methods/fusion-in-decoder.md says how it lies there.
        prompt, options: as of `PromptedJudge`; weights are loaded plainly, without quantize, adapter and device_map.
            `max_tokens` is of each text.

    Raises:
        CheckpointError: when the checkpoint is of another kind, or incomplete.
        InputError: when there is another number of targets than one.
    """

    answers = frozenset({GradeSet})
    scoring = "fusion-in-t5 1"
    fuses = True
    reads_priors = True

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "fit5", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)
        if len(self.prompt.targets) != 1:
            raise InputError(
                f"prompt {self.prompt.name!r} has targets {list(self.prompt.targets)}; Fusion-in-T5 has one"
            )
        [self.target] = target_ids(self.tokenizer, self.prompt.targets, behind=self.tail)

    @property
    def options(self) -> dict[str, str]:
        """The word whose logit is the grade."""
        return {"targets": f"{self.prompt.targets[0]!r} = token {self.target}"}

    def texts(self, question: Question, *, whole: bool = False) -> dict[str, str]:
        """What the blanks of the prompt say.

        Raises:
            InputError: when the stage before did not score the documents and the prompt shows its scores.
        """
        assert isinstance(question, GradeSet)
        if question.priors is None and self.prompt.shows_priors:
            raise InputError(
                f"prompt {self.prompt.name!r} shows how the stage before scored each document, and it scored none, or "
                "not all; rerank what a retriever or a scoring reranker gives"
            )
        return self.prompt.texts(
            question.query, question.documents, priors=question.priors, wording=self.wording, whole=whole
        )

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step of the decoder for every document of every set."""
        assert isinstance(self.model, SequenceText)
        groups = [each.prompt.texts for each in asked]
        scored = self.model.model.score_groups(groups, [self.target], prefix=self.model.prefix, apart=True)
        scores = iter((scored.logits[:, 0] + self._bias[self.target]).tolist())
        answers = [GradedSet(tuple(next(scores) for _ in group)) for group in groups]
        return Given(answers, Work(scored.tokens, scored.padded, scored.flops))

    def _loaded(self, loading: Loading) -> TextModel:
        from rerank.engine.t5.fusion import load_fusion

        if (kind := checkpoints.kind(self.folder)) != "fusion-in-t5":
            raise CheckpointError(f"{self.folder} is of kind {kind} and no Fusion-in-T5; choose another judge")
        loaded, across, self._bias = load_fusion(self.folder, loading)
        return SequenceText(loaded, self.prompt.answer, across)
