"""Distributions with plug-ins, as they lie in a folder of installed ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, source: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """A distribution of one module of its own name; `points` are targets by group and name."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = [
        f"[{group}]\n" + "".join(f"{point} = {target}\n" for point, target in targets.items())
        for group, targets in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections))
