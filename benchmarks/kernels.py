"""K1 to K3: MaxSim, the SPLADE head and list losses, tensors in. The work is so many calls of the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks import data
from benchmarks.contest import Contest, Outcome, Peer, Scores, Setting, workload

__all__: list[str] = []

Way = Callable[[Sequence[int], int], Scores]
CALLS = 20


@workload("K1", "kernels", "MaxSim, 32 query tokens, 1,000 and 5,000 documents of 300 tokens of 128, full and ragged")
def k1(setting: Setting) -> Iterator[Contest]:
    for count in setting.pick((1_000, 5_000), (10,)):
        for ragged in (False, True):
            yield _maxsim(count, ragged, setting)


@workload("K2", "kernels", "SPLADE head, 128 texts of 256 tokens, 30,522 and 250,002 terms")
def k2(setting: Setting) -> Iterator[Contest]:
    for vocab in setting.pick((30_522, 250_002), (500,)):
        yield _splade(vocab, setting)


@workload("K3", "kernels", "RankNet and ListMLE, forward and backward, 64 lists of 100")
def k3(setting: Setting) -> Iterator[Contest]:
    from rerank.kernels.list_losses import listmle, ranknet

    for name, op in (("RankNet", ranknet), ("ListMLE", listmle)):
        yield _loss(name, op, setting)


def _maxsim(count: int, ragged: bool, setting: Setting) -> Contest:
    from rerank.kernels.maxsim import maxsim

    random = torch.Generator(setting.device).manual_seed(data.SEED)
    dtype = torch.float32 if setting.device == "cpu" else torch.float16
    longest = setting.pick(300, 20)
    low = longest // 8 if ragged else longest
    lengths = torch.randint(low, longest + 1, (count,), generator=random, device=setting.device)
    cu = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    queries, documents = (
        torch.nn.functional.normalize(
            torch.randn(rows, 128, generator=random, device=setting.device, dtype=torch.float32), dim=-1
        ).to(dtype)
        for rows in (32, int(lengths.sum()))
    )
    padded = torch.zeros(count, longest, 128, dtype=dtype, device=setting.device)
    mask = torch.arange(longest, device=setting.device) < lengths[:, None]
    padded[mask] = documents
    half = torch.empty(documents.numel() // 2, dtype=dtype, device=setting.device)

    def einsum() -> Any:
        scores = torch.einsum("qd,ntd->nqt", queries, padded).masked_fill(~mask[:, None], float("-inf"))
        return scores.max(-1).values.float().sum(-1)

    def flash(packed: bool) -> Callable[[], Way]:
        def make() -> Way:
            import flash_maxsim

            if packed:
                return _called(lambda: flash_maxsim.flash_maxsim_packed(queries, documents, cu, longest))
            return _called(lambda: flash_maxsim.flash_maxsim(queries, padded, lengths))

        return make

    peers = [
        Peer("flash-maxsim, packed", flash(True), "flash-maxsim", (1,), target=1.2 if not ragged else None),
        Peer("flash-maxsim, padded", flash(False), "flash-maxsim", (1,), target=1.8 if ragged else 1.2),
        Peer("torch, einsum over padded", lambda: _called(einsum), "torch", (1,)),
        # a copy reads and writes: half the documents' bytes are as much traffic as reading all of them
        Peer("a copy of as many bytes", lambda: _copied(half, count), "torch", (1,),
             target=0.85 if count == 5_000 else None, approximate=True),
    ]  # fmt: skip
    ours = _counted(lambda: maxsim(queries[None], documents, cu)[0], 2 * 32 * documents.numel(), maxsim, setting)
    return _contest(
        f"{count} documents, {'ragged' if ragged else 'full'}",
        ours,
        lambda: maxsim.providers["reference"].run(queries.float()[None], documents.float(), cu)[0],
        peers,
        setting,
    )


def _splade(vocab: int, setting: Setting) -> Contest:
    from rerank.kernels.splade_pool import splade_pool

    texts, tokens, dim = setting.pick((128, 256, 768), (3, 8, 16))
    random = torch.Generator(setting.device).manual_seed(data.SEED)
    dtype = torch.float32 if setting.device == "cpu" else torch.bfloat16

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=random, device=setting.device).div_(dim**0.25).to(dtype)

    hidden, weight, bias = normal(texts * tokens, dim), normal(vocab, dim), normal(vocab)
    cu = torch.arange(0, texts * tokens + 1, tokens, dtype=torch.int32, device=setting.device)

    def plain() -> Any:
        logits = torch.nn.functional.linear(hidden.view(texts, tokens, dim), weight, bias)
        return logits.max(1).values.float().relu().log1p()

    def pooling() -> Way:
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        pool = SpladePooling("max").eval()
        mask = torch.ones(texts, tokens, dtype=torch.long, device=setting.device)

        def call() -> Any:
            logits = torch.nn.functional.linear(hidden.view(texts, tokens, dim), weight, bias)
            return pool({"token_embeddings": logits, "attention_mask": mask})["sentence_embedding"]

        return _called(call)

    peers = [
        Peer("sentence-transformers, SpladePooling", pooling, "sentence-transformers", (1,), target=2.3),
        Peer("torch, maximum first", lambda: _called(plain), "torch", (1,)),
    ]
    flops = 2 * texts * tokens * dim * vocab
    ours = _counted(lambda: splade_pool(hidden, cu, weight, bias), flops, splade_pool, setting)

    def reference() -> Any:
        return splade_pool.providers["reference"].run(hidden.float(), cu, weight.float(), bias.float())

    return _contest(f"{vocab} terms", ours, reference, peers, setting, calls=5)


def _loss(name: str, op: Any, setting: Setting) -> Contest:
    random = torch.Generator(setting.device).manual_seed(data.SEED)
    shape = setting.pick((64, 100), (3, 10))
    start, relevance = (torch.randn(*shape, generator=random, device=setting.device) for _ in range(2))
    mask = torch.ones(*shape, dtype=torch.bool, device=setting.device)

    def gradient(run: Callable[..., Any], values: Any) -> Any:
        scores = values.detach().requires_grad_()
        run(scores, relevance, mask).sum().backward()
        return scores.grad

    provider = "triton" if setting.device != "cpu" and "triton" in op.providers else "reference"

    def ours() -> Any:
        with op.using(provider):
            return gradient(op, start)

    plain = op.providers["reference"].run
    peers = [
        Peer("torch, the definition", lambda: _called(lambda: gradient(plain, start)), "torch", (1,), target=5.0),
        Peer("sentence-transformers", lambda: _their_loss(name, start, relevance), "sentence-transformers", (1,),
             target=5.0, approximate=True),
    ]  # fmt: skip
    return _contest(name, _counted(ours, 0, op, setting, provider), lambda: gradient(plain, start), peers, setting)


def _their_loss(name: str, start: Any, relevance: Any) -> Way:
    """Its loss with a model that costs nothing; it makes a pair of every query and document, as in training."""
    from sentence_transformers.cross_encoder import losses

    class Scores(torch.nn.Module):
        num_labels = 1
        device = start.device

        def __init__(self) -> None:
            super().__init__()
            self.values = torch.nn.Parameter(start.clone())

        def preprocess(self, pairs: Any, **options: Any) -> dict[str, Any]:
            return {}

        def forward(self, *inputs: Any, **options: Any) -> Any:
            return {"scores": self.values.view(-1, 1)}

    model: Any = Scores()
    made = {"RankNet": losses.RankNetLoss, "ListMLE": losses.ListMLELoss}[name](model, mini_batch_size=-1)
    queries = ["query"] * len(start)
    documents = [["text"] * start.shape[1]] * len(start)
    labels = list(relevance)

    def call() -> Any:
        model.values.grad = None
        made([queries, documents], labels).backward()
        return model.values.grad

    return _called(call)


def _contest(
    name: str, ours: Any, reference: Callable[[], Any], peers: Sequence[Peer], setting: Setting, *, calls: int = CALLS
) -> Contest:
    exact = setting.device == "cpu"
    return Contest(
        f"{name}, tensors in",
        range(setting.pick(calls, 2)),
        ours,
        lambda work: reference().float().flatten().tolist(),
        peers,
        tolerance=1e-4 if exact else None,
        tau=None if exact else 0.98,
        checked=1,
        searched=1,
        peak=setting.dtype,
    )


def _called(call: Callable[[], Any]) -> Way:
    """So many calls; the scores are those of the last, and only the first part of the work fetches them."""

    def run(work: Sequence[int], batch_size: int) -> Scores:
        for _ in work:
            last = call()
        return last.float().flatten().tolist() if len(work) == 1 else []

    return run


def _copied(half: Any, count: int) -> Way:
    other = torch.empty_like(half)

    def run(work: Sequence[int], batch_size: int) -> Scores:
        for _ in work:
            other.copy_(half)
        return [0.0] * count if len(work) == 1 else []

    return run


def _counted(
    call: Callable[[], Any], flops: int, op: Any, setting: Setting, provider: str = ""
) -> Callable[[Sequence[int]], Outcome]:
    way = _called(call)

    def run(work: Sequence[int]) -> Outcome:
        cuda = setting.device != "cpu"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        scores = way(work, 1)
        amounts = {"flops": flops * len(work), "calls": len(work)}
        if cuda:
            amounts["extra_memory_bytes"] = torch.cuda.max_memory_allocated() - before
        return Outcome(scores, amounts, {"provider": provider} if provider else {})

    return run
