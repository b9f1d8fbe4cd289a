"""Markdown tables of scores, and intervals in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fss_lab.metrics import METRICS, Interval, SegmentationScore, bootstrap_interval, paired_bootstrap


def table(scores: Mapping[str, SegmentationScore]) -> str:
    """The scores as a Markdown table in percent, a column for each of `METRICS`, with 95 % bootstrap intervals over
    episodes."""
    rows = {name: [percent(bootstrap_interval(score, metric)) for metric in METRICS] for name, score in scores.items()}
    return "\n".join(grid(["variant", *(f"{metric.label} [95 %]" for metric in METRICS.values())], rows))


def grid(heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines of a Markdown table with aligned columns. heads: of all columns; rows: cells by what stands first."""
    lines = [list(heads), *([name, *cells] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *rest = (f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
    return [first, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *rest]


def percent(value: Interval, form: str = ".1f") -> str:
    """An interval of fractions in percent: "50.0 [40.0, 60.0]". form: "+.1f" for a difference."""
    return fraction(Interval(*(100 * number for number in value)), form)


def difference(score: SegmentationScore, baseline: SegmentationScore) -> str:
    """mIoU of one variant over another's on the same episodes, in points: "+5.0 [+4.0, +6.0]"."""
    return percent(paired_bootstrap(score, baseline), "+.1f")


def fraction(value: Interval, form: str = ".3f") -> str:
    """An interval as it is: "0.500 [0.400, 0.600]"."""
    return f"{value.estimate:{form}} [{value.low:{form}}, {value.high:{form}}]"
