"""The ratios as a picture: how many times better than each peer ours is. Needs matplotlib, which is not
installed by default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.peers.ratios import Comparison, amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES: Final = {
    "dask": ("#0072B2", "o"),
    "ray": ("#D55E00", "s"),
    "parsl": ("#009E73", "^"),
    "celery": ("#CC79A7", "D"),
    "etcd": ("#000000", "v"),
}
"""Colours of Okabe and Ito: told apart by whoever sees fewer colours, too."""
_GREY: Final = "#555555"
_WIDTH: Final = 7.6
_ROW: Final = 0.2
_GAP: Final = 0.7
"""Between groups, in rows."""
_MARGIN: Final = 1.3
_SMALL: Final = 8
_ROOM: Final = 2.2
"""The axis ends at so many times the farthest figure: labels stand beside the marks."""


def draw(comparisons: Sequence[Comparison], titles: Mapping[str, str], file: Path) -> None:
    """Write it to the file, as its suffix says; the same comparisons give the same file. What did not come
    about in time is named, at the edge. Raises ImportError without matplotlib, ValueError for a suffix that
    it does not know."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    groups: dict[str, list[Comparison]] = {}
    for one in sorted(comparisons, key=lambda one: one.measure.key):
        groups.setdefault(one.measure.key, []).append(one)
    rows = sum(map(len, groups.values())) + _GAP * len(groups)
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "peers"}):
        figure = Figure(figsize=(_WIDTH, _MARGIN + _ROW * rows), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xscale("log")
        limits = _limits(comparisons)
        axes.set_xlim(*limits)
        _draw_groups(axes, groups, titles, limits[1])
        axes.axvline(1, color=_GREY, linewidth=0.8, linestyle="--")
        axes.set_ylim(rows - _GAP, -1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("times better than the peer; lines: from run to run")
        axes.set_title(
            "Three nodes with synced logs, beside each peer as it is installed", loc="left", fontsize=10
        )
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)


def _draw_groups(
    axes: Axes, groups: Mapping[str, Sequence[Comparison]], titles: Mapping[str, str], edge: float
) -> None:
    row, places, names = 0.0, [], []
    for key, members in groups.items():
        places.append(row + (len(members) - 1) / 2)
        names.append(
            f"{key}\n{members[0].measure.title}" if len(members) > 1 else f"{key} {members[0].measure.title}"
        )
        for one in members:
            _draw_one(axes, one, titles[one.peer], row, edge)
            row += 1
        axes.axhline(row - 0.5 + _GAP / 2, color=_GREY, linewidth=0.3, alpha=0.5)
        row += _GAP
    axes.set_yticks(places, names, fontsize=_SMALL)
    axes.tick_params(axis="y", length=0)


def _draw_one(axes: Axes, one: Comparison, title: str, row: float, edge: float) -> None:
    colour, mark = _STYLES[one.peer]
    better = one.better
    label = f"{title} {amount(better.median)}"
    if better.median == math.inf:
        axes.annotate(f"{title}: not in time", (edge, row), (-4, -3), textcoords="offset points",
                      color=colour, fontsize=_SMALL, ha="right")  # fmt: skip
        return
    axes.plot([better.min, min(better.max, edge)], [row, row], color=colour, linewidth=1.2)
    axes.plot([better.median], [row], color=colour, marker=mark, markersize=4.5)
    farthest = min(max(better.max, better.median), edge)
    axes.annotate(label, (farthest, row), (6, -3), textcoords="offset points", color=colour, fontsize=_SMALL,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip


def _limits(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Of the axis."""
    known = [value for one in comparisons for value in one.better if 0 < value < math.inf]
    return min([*known, 1.0]) / 1.3, max([*known, 1.0]) * _ROOM**2
