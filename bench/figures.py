"""Percentiles and tables."""

import statistics
from collections.abc import Sequence


def p50(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The nearest-rank 95th percentile."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seconds(value: float) -> str:
    """A time with a unit that fits it."""
    if value < 0.001:
        return f"{value * 1_000_000:.1f} µs"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def ratio(ours: float, theirs: float) -> str:
    """How many times the reference."""
    return f"{ours / theirs:.2f} x"
