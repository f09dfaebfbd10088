"""The output head at a few target tokens, or the likelihood of one token a row."""

from __future__ import annotations

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.target_logits import chunked, reference

__all__ = ["target_logits", "token_log_probs"]

target_logits = Op(reference.target_logits)
token_log_probs = Op(reference.token_log_probs)
token_log_probs.add("chunked", chunked.token_log_probs, lambda *args, **options: True)
if find_spec("triton"):
    from rerank.kernels.target_logits import triton

    target_logits.add("triton", triton.target_logits, triton.supports)
    token_log_probs.add("triton", triton.token_log_probs, triton.supports_all_rows)
