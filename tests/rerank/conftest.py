"""Plans played by hand, without a scheduler, so that every question is seen; and no deadline for a busy machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from rerank.cost import Ledger
from rerank.questions import Announce, Heard, Judge, Plan, Question
from rerank.types import Document, Query, Ranking

settings.register_profile("no deadline", deadline=None)  # an example may wait for a core; pytest has a timeout
settings.load_profile("no deadline")

Played = tuple[Ranking, list[list[Question]]]


@pytest.fixture(scope="session")
def play() -> Callable[[Plan, Judge], Played]:
    """(plan, judge) -> the ranking, and the questions of every round, announcements left out."""

    def played(plan: Plan, judge: Judge) -> Played:
        rounds: list[list[Question]] = []
        answers = None
        while True:
            try:
                questions = next(plan) if answers is None else plan.send(answers)
            except StopIteration as end:
                return end.value, rounds
            asked = [question for question in questions if not isinstance(question, Announce)]
            given = iter(answer for _, answer in sorted(dict(judge.answer(asked, Ledger())).items()))
            answers = [Heard() if isinstance(question, Announce) else next(given) for question in questions]
            if asked:
                rounds.append(asked)

    return played


@pytest.fixture(scope="session")
def listed() -> Callable[..., Ranking]:
    """(number of documents, query_id) -> documents "0", "1", … in this order, none of them scored."""

    def ranking(count: int, query_id: str = "query") -> Ranking:
        documents = [Document(str(index), f"text {index} for {query_id}") for index in range(count)]
        return Ranking.unscored(Query(query_id, f"words of {query_id}"), documents)

    return ranking


@pytest.fixture(scope="session")
def lm(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model with random weights and a real tokenizer; nobody writes into its folder."""
    from judge_models import tiny_lm

    return tiny_lm(tmp_path_factory.mktemp("lm"), smollm)


@pytest.fixture(scope="session")
def t5(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 of the same sort."""
    from judge_models import tiny_t5

    return tiny_t5(tmp_path_factory.mktemp("t5"), flan)


CAUSAL: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 20},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {
        "sliding_window": 24,
        "query_pre_attn_scalar": 32,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0,
    },
    "gemma3_text": {
        "sliding_window": 24,
        "query_pre_attn_scalar": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


@pytest.fixture(scope="session")
def causal() -> Callable[..., Any]:
    """(family, with "tied" behind it for a tied head) -> a small causal model with random weights, always the same."""

    def made(name: str, *, kind: str = "AutoModelForCausalLM", **options: Any) -> Any:
        import transformers
        from torch import nn

        family, _, tied = name.partition(" ")
        shape = {"vocab_size": 200, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024}
        tie = {"tie_word_embeddings": True} if tied else {}
        transformers.set_seed(7)
        config = transformers.AutoConfig.for_model(
            family, **(shape | heads | {"pad_token_id": 0} | tie | dict(CAUSAL[family]) | options)
        )
        model = getattr(transformers, kind).from_config(config).eval()
        for parameter in model.parameters():  # large enough to tell prompts apart
            nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)
        return model

    return made
