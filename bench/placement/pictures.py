"""A study as a picture: what is gained over what it costs, with a line through the settings of a series.
Needs matplotlib, which is not installed by default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.placement.study import BASELINE, Point, Study, StudyReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Of Okabe and Ito: told apart by whoever sees fewer colours, too."""
_MARKS: Final = ("o", "s", "^", "D")
_GREY: Final = "#555555"
_INCHES: Final = (7.2, 4.4)
_SMALL: Final = 9


def draw(report: StudyReport, file: Path) -> None:
    """Write it to the file, as its suffix says. The same report gives the same file. Raises ImportError
    without matplotlib, ValueError for a suffix that it does not know."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    study = report.study
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": study.name}):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        _draw_series(axes, study, report.points)
        if study.required is not None:
            _draw_required(axes, study, study.required)
        axes.set_xlabel(study.cost.title)
        axes.set_ylabel(study.gain.title)
        axes.set_title(f"{study.name}: {study.gain.words}", loc="left", fontsize=10)
        axes.margins(x=0.2, y=0.12)
        axes.set_ylim(bottom=0)
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)


def _draw_series(axes: Axes, study: Study, points: list[Point]) -> None:
    for at, name in enumerate(dict.fromkeys(point.series for point in points)):
        colour, mark = _COLOURS[at % len(_COLOURS)], _MARKS[at % len(_MARKS)]
        some = [point for point in points if point.series == name]
        places = [(point.figures[study.cost.name], point.figures[study.gain.name]) for point in some]
        axes.plot(*zip(*places, strict=True), color=colour, marker=mark, linewidth=1.2, markersize=6)
        # A line that falls leaves room above its points, one that rises below them.
        offset = (9, -10) if study.higher else (8, 4)
        if name == BASELINE:
            offset = (9, offset[1] - 8)
        for point, place in zip(some, places, strict=True):
            label = _label(study, point, first=point is some[0])
            axes.annotate(label, place, offset, textcoords="offset points", color=colour, fontsize=_SMALL)


def _draw_required(axes: Axes, study: Study, bound: float) -> None:
    axes.axhline(bound, color=_GREY, linewidth=0.8, linestyle="--")
    words = f"{study.bound_words} {bound:g} {study.gain.unit} is asked for"
    axes.annotate(
        words,
        (0, bound),
        (6, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=_GREY,
        fontsize=_SMALL,
    )


def _label(study: Study, point: Point, *, first: bool) -> str:
    """The first of the settings that are varied says what they are."""
    words = study.varied if first else ""
    if point.series != study.name:
        words = point.series
    return " ".join(part for part in (words, point.label) if part)
