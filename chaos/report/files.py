"""The report as two files: JSON for programs, HTML for people."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from chaos.drills.drill import Outcome
from chaos.report.page import page


def write_report(outcome: Outcome, folder: Path) -> list[Path]:
    """Write `report.json` and `report.html` into the folder; returns their paths."""
    data, read = folder / "report.json", folder / "report.html"
    data.write_text(json.dumps(as_json(outcome), indent=2) + "\n")
    where = ", ".join(f"{name} {value}" for name, value in surroundings().items())
    read.write_text(page(outcome, where), encoding="utf-8")
    return [data, read]


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All of it, as JSON can hold it."""
    return {
        "surroundings": surroundings(),
        "held": outcome.held,
        "plan": msgspec.to_builtins(outcome.plan),
        "seed": outcome.seed,
        "nodes": outcome.nodes,
        "began_ms": outcome.began_ms,
        "ended_ms": outcome.ended_ms,
        "checks": [check._asdict() for check in outcome.checks],
        "incidents": [asdict(incident) for incident in outcome.incidents],
        "leaders": outcome.leaders,
        "elections": outcome.elections,
        "workflows": len(outcome.acknowledged),
        "tasks": outcome.tasks,
        "problems": outcome.problems,
    }


def surroundings() -> dict[str, object]:
    """Where it was found."""
    return {
        "quorumflow": version("quorumflow"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load average": round(os.getloadavg()[0], 1),
    }
