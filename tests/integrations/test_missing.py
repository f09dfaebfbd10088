"""A framework that is not installed is one line that says what to install, and loads nothing else."""

from __future__ import annotations

import importlib
import sys

import pytest

from rerank.errors import MissingExtra

ADAPTERS = {
    "langchain": ("langchain_core", "langchain"),
    "llamaindex": ("llama_index", "llamaindex"),
    "haystack": ("haystack", "haystack"),
    "pyterrier": ("pyterrier", "pyterrier"),
    "mteb": ("mteb", "mteb"),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_extra_is_named(adapter, monkeypatch):
    package, extra = ADAPTERS[adapter]
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"rerank.integrations.{adapter}", raising=False)

    with pytest.raises(MissingExtra, match=rf"pip install 'rerank-toolkit\[{extra}\]'"):
        importlib.import_module(f"rerank.integrations.{adapter}")
