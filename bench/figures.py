"""Percentiles and tables."""

import statistics
from collections.abc import Callable, Sequence


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


def chart(title: str, x_axis: tuple[str, Sequence[object]], y_axis: str, bars: Sequence[float], line: Sequence[float]) -> str:
    """A chart in Mermaid's words, which pages that show Markdown draw: ours as bars, and a reference, where there is one, as a line.

    Args:
        title: Says which is which, since there is no legend.
        x_axis: What is along it, and its marks.
        y_axis: What is counted.
        bars: Ours, a figure for each mark.
        line: The same of the reference.
    """
    name, marks = x_axis
    lines = [
        "```mermaid",
        "xychart-beta",
        f'    title "{title}"',
        f'    x-axis "{name}" [{", ".join(map(str, marks))}]',
        f'    y-axis "{y_axis}"',
        f"    bar [{', '.join(f'{value:.0f}' for value in bars)}]",
    ]
    if line:
        lines.append(f"    line [{', '.join(f'{value:.0f}' for value in line)}]")
    return "\n".join([*lines, "```"])


def seconds(value: float) -> str:
    """A time with a unit that fits it."""
    if value < 0.001:
        return f"{value * 1_000_000:.1f} µs"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def ratio(ours: float, theirs: float) -> str:
    """How many times the reference."""
    return f"{ours / theirs:.2f} x"


def spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """The median of several turns, and the least and the most of them."""
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(p50(values))} ({shown(min(values))} to {shown(max(values))})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times the reference, turn by turn."""
    return spread([our / their for our, their in zip(ours, theirs, strict=True)], "{:.2f} x".format)
