"""What a model says, without its thoughts."""

from __future__ import annotations

import re

__all__ = ["opens_thought", "said", "thought_cut_off", "thoughts_end"]

OPENED = re.compile(r"<(?:think|reason)>", re.IGNORECASE)
CLOSED = re.compile(r"</(?:think|reason)>", re.IGNORECASE)
ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE)


def said(text: str) -> str:
    """What an answer says: behind the last `</think>` or `</reason>`, and inside `<answer>` where there is one.

    A thought that never ends says nothing: what it names on its way is no answer.
    """
    if thought_cut_off(text):
        return ""
    spoken = text[thoughts_end(text) :]
    found = ANSWER.findall(spoken)
    return str(found[-1] if found else spoken).strip()


def thought_cut_off(text: str) -> bool:
    """Whether a thought was begun and not ended, as when there were too few tokens for it."""
    opened = [found.end() for found in OPENED.finditer(text)]
    return bool(opened) and thoughts_end(text) < opened[-1] and ANSWER.search(text) is None


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends with the beginning of a thought, which its answer then goes on with."""
    return prompt.rstrip().lower().endswith(("<think>", "<reason>"))


def thoughts_end(text: str) -> int:
    """Where the last thought ends; 0 when none does."""
    return max((found.end() for found in CLOSED.finditer(text)), default=0)
