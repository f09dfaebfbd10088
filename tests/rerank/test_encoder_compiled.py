"""A compiled pass gives the scores of the plain loop; compiling takes half a minute, so this asks to be asked for."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from encoder_models import agree, classifier, plain, random_pairs

from rerank.engine.encoder import Encoder

pytestmark = [
    pytest.mark.skipif("RERANK_TEST_COMPILE" not in os.environ, reason="slow: set RERANK_TEST_COMPILE=1 to run it"),
    pytest.mark.skipif(
        not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), reason="needs a C++ compiler"
    ),
]


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_scores_equal_the_plain_loop(name):
    model = classifier(name)
    pairs = random_pairs(10, seed=9, longest=200)
    expected = plain(model, pairs)

    encoder = Encoder(model, compile=True)
    got = torch.cat([encoder.score(pairs[:3]).logits, encoder.score(pairs[3:]).logits])

    agree(got, expected)
    assert encoder.execution.endswith(", compiled")
    assert "fused" not in encoder.execution
