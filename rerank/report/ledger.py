"""The bill as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rerank.cost import Ledger

__all__ = ["byte_size", "duration", "ledger_table", "si"]

WAITS = {"mean": "mean", "p95": "95 % within", "longest": "longest"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def ledger_table(ledger: Ledger) -> Table:
    """What ranking cost: questions, tokens, padding, FLOPs, seconds, peak memory, and the choices that were made."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("cost")
    drawn.add_column("amount", justify="right", no_wrap=True)
    drawn.add_column("")
    for label, amount, detail in _rows(ledger.as_dict()):
        drawn.add_row(label, amount, Text(detail, style="dim"))
    for name, value in ledger.notes.items():
        drawn.add_row(Text(name, style="dim"), "", Text(value, style="dim"))
    return drawn


def si(value: float) -> str:
    """A number with three digits and a prefix: 1,234,567 is '1.23 M'; whole numbers below 10,000 are written out."""
    if value == int(value) and abs(value) < 10_000:
        return f"{int(value):,} "
    rounded, step = float(f"{value:.3g}"), 0
    while abs(rounded) >= 1000 and step < len(_PREFIXES) - 1:
        rounded, step = rounded / 1000, step + 1
    return f"{rounded:.3g} {_PREFIXES[step]}"


def byte_size(count: float) -> str:
    """Bytes in binary units: '512 MiB'."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count / 1024:,.3g} TiB"


def duration(seconds: float) -> str:
    """'0.42 s', '12.3 s', '3 min 05 s', '2 h 07 min'."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _rows(bill: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(label, amount, what more there is to say), for the amounts that were charged."""
    seconds = bill.get("seconds", 0.0)
    yield "questions (pairs)", si(bill.get("questions", 0)).strip(), _list(_answered(bill))
    yield from _counts(bill, {"rounds": "rounds", "calls": "forward passes"})
    yield "tokens", si(_tokens(bill)).strip(), _list(_token_kinds(bill))
    yield "padding", f"{100 * bill['padding']:.1f} %", "of the tokens computed"
    yield from _counts(bill, {"truncated_documents": "documents cut", "repairs": "answers repaired"})
    yield from _counts(bill, {"windows": "windows asked about", "windows_left_out": "windows not read"})
    yield from _counts(bill, {"over_budget": "documents over budget"})
    yield from _counts(bill, {"retries": "questions asked again", "words_untold": "words a server told nothing of"})
    if "price" in bill:
        yield "price", f"{bill['price']:,.4f}", "in the currency of the prices given"
    yield "compute", f"{si(bill.get('flops', 0))}FLOP", _rate(bill.get("flops", 0), seconds, "FLOP/s")
    if bill.get("flops_estimated"):
        yield "compute, estimated", f"{si(bill['flops_estimated'])}FLOP", "by the closed form of arXiv 2507.06223"
    asked = bill.get("questions", 0) - sum(_answered(bill).values())  # what came from memory took the judge no time
    yield "time in the judge", duration(seconds), _rate(asked, seconds, "questions/s")
    if waits := bill.get("wall_seconds"):
        more = ", ".join(f"{label} {duration(waits[name])}" for name, label in WAITS.items())
        yield "time of a query", duration(waits["median"]), f"median; {more}"
    yield "peak memory", byte_size(bill["peak_memory_bytes"]), "of this process"
    if "peak_cuda_bytes" in bill:
        yield "peak CUDA memory", byte_size(bill["peak_cuda_bytes"]), "of tensors"


def _counts(bill: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, label in labels.items():
        if bill.get(name):
            detail = f"{si(bill['truncated_tokens'])}tokens" if name == "truncated_documents" else ""
            yield label, si(bill[name]).strip(), detail


def _tokens(bill: Mapping[str, Any]) -> float:
    return float(bill.get("tokens_real", 0) + bill.get("tokens_padded", 0))


def _answered(bill: Mapping[str, Any]) -> dict[str, float]:
    return {"from memory": bill.get("memory_hits", 0), "from the journal": bill.get("journal_hits", 0)}


def _token_kinds(bill: Mapping[str, Any]) -> dict[str, float]:
    return {"reused": bill.get("tokens_reused", 0), "generated": bill.get("tokens_generated", 0)}


def _list(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{si(amount).strip()} {label}" for label, amount in amounts.items() if amount)


def _rate(amount: float, seconds: float, unit: str) -> str:
    return f"{si(amount / seconds)}{unit}" if seconds and amount else ""
