"""Several texts that one decoder reads together: each with a template of its own, each cut for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rerank.engine.texts.prompt_parts import Prompt
from rerank.engine.texts.prompt_tokens import PromptTokens

__all__ = ["fused"]


def fused(
    each: Sequence[PromptTokens],
    texts: Mapping[str, str],
    *,
    max_tokens: int | None,
    document_tokens: int | None = None,
    whole: Mapping[str, str] | None = None,
) -> Prompt:
    """A prompt whose segments are the texts that the encoder reads one by one.

    Args:
        each: the template of every text, in order.
        texts: for all slots of all templates, by name.
        max_tokens: the most tokens of each text; its document is cut at its end to fit.
        document_tokens, whole: as of `PromptTokens.fitted`.

    Raises:
        InputError: as of `PromptTokens.render`.
    """
    made = [
        one.render(
            {name: texts[name] for name in one.slots},
            max_tokens=max_tokens,
            document_tokens=document_tokens,
            whole=None if whole is None else {name: whole[name] for name in one.slots},
        )
        for one in each
    ]
    return Prompt(
        tuple(tuple(one.ids) for one in made),
        merged=sum(one.merged for one in made),
        cut={name: lost for one in made for name, lost in (one.cut or {}).items()},
        recalled=sum(one.recalled for one in made),
        defused=sum(one.defused for one in made),
        fused=True,
    )
