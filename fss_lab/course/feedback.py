"""Feedback: a page for each submission, and a figure of what a class found difficult. Both need no network."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from html import escape
from string import Template

from matplotlib.ticker import MaxNLocator

from fss_lab.course.marks import Marks, Result
from fss_lab.figures import style
from fss_lab.figures.style import Picture, chart

MOST_COMMON = 4  # diagnoses that the figure shows of each exercise
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { max-width: 54rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; }
h3 { font-size: 1rem; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 1.2rem 0.2rem 0; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
td + td { white-space: nowrap; }
section { border-top: 1px solid #bbb; margin-top: 2rem; }
pre { background: #f5f5f5; padding: 0.7rem; overflow-x: auto; }
pre.said { white-space: pre-wrap; border-left: 0.3rem solid #888; }
.full { color: #00654a; } .none { color: #a03d00; }
pre.full { border-color: #00654a; } pre.none { border-color: #a03d00; }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #e6e6e6; } pre { background: #2a2a2a; } a { color: #8ab4f8; }
  .full { color: #5fd3a8; } .none { color: #ffab73; }
}
</style>
</head>
<body>
<h1>$title</h1>
<p>$student: <strong>$points points</strong></p>
$notes
<table><tr><th>exercise</th><th>points</th></tr>
$rows
</table>
$sections
</body>
</html>
""")
SECTION = Template("""<section id="$name"><h2>$title</h2>
<p class="$kind">$mark $points points</p>
<pre class="said $kind">$said</pre>
<h3>Your code</h3>
<pre tabindex="0">$code</pre></section>""")


def page(marks: Marks, title: str) -> str:
    """The feedback of one submission as one HTML file: points, what each check said, and the code that it checked.

    title: of the notebook. The page has none of the notebook's own text, which the student has.
    """
    parts = [{key: escape(value) for key, value in _parts(result).items()} for result in marks.results]
    row = '<tr><td><a href="#{name}">{title}</a></td><td class="{kind}">{mark} {points}</td></tr>'
    notes = "".join(f"<li>{escape(remark)}</li>" for remark in marks.remarks)
    return PAGE.substitute(
        title=escape(title),
        student=escape(marks.student),
        points=f"{marks.points:g} of {sum(result.most for result in marks.results):g}",
        notes=f"<p>Notes from the grading:</p><ul>{notes}</ul>" if notes else "",
        rows="\n".join(row.format(**part) for part in parts),
        sections="\n".join(SECTION.substitute(part) for part in parts),
    )


def _parts(result: Result) -> dict[str, str]:
    full = result.points == result.most
    return {
        "name": result.name,
        "title": result.title,
        "kind": "full" if full else "none",
        "mark": "✓" if full else "○" if result.said.startswith("○") else "✗",
        "points": f"{result.points:g} of {result.most:g}",
        "said": result.said or result.diagnosis,
        "code": result.code,
    }


def diagnoses_figure(notebook: str, marks: Sequence[Marks]) -> Picture:
    """How many submissions of a notebook failed each exercise, and with which diagnosis, the most common ones first.

    marks: of this notebook, at least one with results.
    """
    by_exercise: dict[str, list[Result]] = {}
    for result in (result for row in marks for result in row.results):
        by_exercise.setdefault(result.title, []).append(result)
    many = len(marks)
    lines: list[tuple[str, int | None]] = []  # text, number of submissions (None: a heading)
    for title, results in by_exercise.items():
        failed = Counter(common(result.diagnosis) for result in results if result.points < result.most)
        lines.append((f"{title}: {many - failed.total()} of {many} with full points", None))
        frequent = failed.most_common(MOST_COMMON)
        lines.extend(frequent)
        if rest := failed.total() - sum(count for _, count in frequent):
            lines.append(("other diagnoses", rest))
    alt = " ".join(f"{text}." if count is None else f"{count} times: {text}" for text, count in lines)
    picture = Picture(10, 1.1 + 0.37 * len(lines), f"{notebook}: what {many} submissions got wrong", alt)
    axes = picture.subplots()
    for row, (text, count) in enumerate(lines):
        heading = count is None
        look = {"fontsize": style.SMALL, "color": style.INK, "weight": "bold" if heading else "normal"}
        axes.text(0, row + 0.2 * heading, textwrap.shorten(text, 150), va="bottom", fontdict=look)
        if count is not None:
            axes.barh(row + 0.22, count, height=0.3, color=style.PREDICTION)
            axes.text(count, row + 0.22, f" {count}", fontsize=style.SMALL, color=style.INK, va="center")
    chart(axes, "submissions", grid="x")
    axes.set(xlim=(0, many), ylim=(len(lines) - 0.4, -0.9), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def common(diagnosis: str) -> str:
    """A diagnosis without what differs between two students who made the same mistake."""
    if "is not the one that is installed" in diagnosis:
        return "a function of the checks or the library was replaced"
    line = re.sub(r" \(Your .* not (right either|written yet)\.\)", "", diagnosis.split("\n")[0])
    return re.sub(r": \S+( at \[[^]]*\])?, but \S+ is right.*", ": other values than the right ones", line)
