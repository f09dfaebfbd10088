"""Prompts: what a model is told, one TOML file each, and how what it writes is read."""

from rerank.prompts.load import find, names
from rerank.prompts.prompt import Blank, Message, Prompt, Turn

__all__ = ["Blank", "Message", "Prompt", "Turn", "find", "names"]
