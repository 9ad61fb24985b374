"""Drawing with strings: the few shapes that the report needs, and its axis of time."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 1_120
LEFT: Final = 110
RIGHT: Final = 16

_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400)
_TICKS: Final = 12
"""At most so many on the axis of time."""


class TimeAxis(NamedTuple):
    """From one moment to another (Unix ms), over the width of a drawing."""

    from_ms: int
    until_ms: int

    def x(self, at_ms: float) -> float:
        """Where a moment is; those outside are at the edges."""
        share = (at_ms - self.from_ms) / max(1, self.until_ms - self.from_ms)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(share, 0.0), 1.0)

    def grid(self, top: float, bottom: float) -> str:
        """Lines at round times, with their labels below."""
        seconds = (self.until_ms - self.from_ms) / 1000
        step = next((one for one in _STEPS_S if seconds / one <= _TICKS), _STEPS_S[-1])
        parts = []
        for second in range(0, int(seconds) + 1, step):
            x = self.x(self.from_ms + second * 1000)
            parts.append(line(x, top, x, bottom, "grid"))
            parts.append(text(x, bottom + 16, clock(second), "tick", "middle"))
        return "".join(parts)


def drawing(height: float, parts: Iterable[str], label: str) -> str:
    """An SVG as wide as the page; `label` says what it shows to those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def rectangle(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    """With rounded corners; `kind` is its CSS class, `title` what the pointer shows."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 2.0):.1f}" height="{height:.1f}" rx="2" '
        f'class="{kind}">{_title(title)}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def dot(x: float, y: float, kind: str, title: str = "") -> str:
    """A small disc."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" class="{kind}">{_title(title)}</circle>'


def area(points: list[tuple[float, float]], base: float, kind: str) -> str:
    """What lies between a line and its base."""
    if not points:
        return ""
    corners = [(points[0][0], base), *points, (points[-1][0], base)]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polygon points="{outline}" class="{kind}"/>'


def text(x: float, y: float, content: str, kind: str, anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def clock(seconds: int) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _title(content: str) -> str:
    return f"<title>{escape(content)}</title>" if content else ""
