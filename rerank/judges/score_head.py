"""Models with a score head that read a prompt: one token's state, times a vector, is the score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank import checkpoints
from rerank.errors import CheckpointError
from rerank.judges.bills import Asked, Given
from rerank.judges.causal_text import CausalText
from rerank.judges.cross_encoder import scale_of
from rerank.judges.encoder_text import EncoderText
from rerank.judges.prompted import PromptedJudge
from rerank.judges.scored_text import BidirectionalText
from rerank.prompts.prompt import Prompt
from rerank.questions import Grade, Graded

__all__ = ["ScoreHead"]


class ScoreHead(PromptedJudge):
    """RankLLaMA (Ma et al., 2023, https://arxiv.org/abs/2310.08319) and whatever else is a causal
    `…ForSequenceClassification` with one logit, or two of which log P(second) is the score; and RankT5's encoder-only
    shape (https://arxiv.org/abs/2210.10634), whose first token or mean of tokens is read.

    The prompt says what stands at its end: RankLLaMA's last token is its end token. A Llama that sees both ways
    (nvidia/llama-nemotron-rerank-1b-v2) is read as its config says, by the mean of its tokens' states; there no prompt
    shares its beginning with another. A LoRA over a language model, as RankLLaMA is
    published, brings the head along: `adapter`.

    Args:
        folder, prompt, options: as of `PromptedJudge`.

    Raises:
        CheckpointError: when the checkpoint has no such head.
    """

    answers = frozenset({Grade})
    reads_heads = True
    scoring = "score-head 1"

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt, **options: Any) -> None:
        kind = checkpoints.kind(folder, options.get("adapter"))
        if kind not in ("score-head", "encoder-head", "bidirectional"):
            raise CheckpointError(
                f"{folder} is of kind {kind} and has no score head that reads a prompt; leave out the judge, or ask it "
                "by judge='target-token'"
            )
        super().__init__(folder, prompt=prompt, **options)
        self.scale = ""  # how many logits the head has is seen at the first score

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One pass over the prompts."""
        assert isinstance(self.model, CausalText | EncoderText | BidirectionalText)
        logits, work = self.model.classify([each.prompt for each in asked])
        self.scale = scale_of(len(logits[0]))
        scores = [row[0].item() if len(row) == 1 else row.double().log_softmax(0)[1].item() for row in logits]
        return Given([Graded(score) for score in scores], work)
