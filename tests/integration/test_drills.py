"""Short drills, as `python -m chaos run` carries them out: every promise holds through a killed leader, cut
links, lost agents and a replaced node; and on a cluster that others run. Answers A1, A2, A3, A4, D7, F1, F3,
I4."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chaos.drills import catalogue
from chaos.drills.drill import run
from chaos.drills.incident import Incident
from chaos.plan import parse_plan
from tests.integration.conftest import StartCluster


@pytest.mark.parametrize(
    ("name", "rounds"), [("leader-kill", 2), ("isolated-leader", 2), ("agents-lost", 2), ("replace-node", 1)]
)
def test_a_short_drill(name: str, rounds: int, tmp_path: Path) -> None:
    plan = catalogue.find(name)
    tracks = [msgspec.structs.replace(track, rounds=rounds) for track in plan.tracks]
    # How long things take on a busy machine is not what is tested here.
    plan = msgspec.structs.replace(plan, tracks=tracks, limits=[])
    told: list[Incident] = []
    outcome = run(plan, tmp_path / name, seed=7, on_incident=told.append)
    assert {check.promise: check.found for check in outcome.checks if not check.held} == {}
    assert outcome.incidents == told
    assert len(told) == rounds
    assert all(one.acknowledged_ms is not None and one.assigned_ms is not None for one in told)
    assert outcome.tasks > 0


PLAN = """
summary: What can be done to a cluster that others run.
tracks:
  - rounds: 3
    faults: [move-leader, kill-agents, {fault: hook, command: "touch HERE/{node}", undo: "rm HERE/{node}"}]
"""


def test_a_plan_is_aimed_at_a_cluster_that_runs(start_cluster: StartCluster, tmp_path: Path) -> None:
    cluster = start_cluster(nodes=3)
    marks = tmp_path / "marks"
    marks.mkdir()
    plan = parse_plan(PLAN.replace("HERE", str(marks)), "aimed", "aimed.yaml")
    struck: list[tuple[str, bool]] = []

    def note(one: Incident) -> None:
        struck.append((one.fault, one.hit_leader))

    outcome = run(plan, tmp_path / "aimed", seed=7, endpoints=cluster.endpoints, on_incident=note)
    assert {check.promise: check.found for check in outcome.checks if not check.held} == {}
    assert struck == [("move-leader", True), ("kill-agents", False), ("hook", True)]
    assert list(marks.iterdir()) == [], "what the hook did was undone"
