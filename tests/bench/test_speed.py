"""What the report on speed holds; how fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from bench.placement.__main__ import main
from bench.placement.speed import calibrate, measure_round, measure_single, snapshot_of
from coordinator.scheduling.costs.weights import BALANCED


def test_snapshots_have_what_they_are_asked_for() -> None:
    snapshot = snapshot_of(20, 30, 10)
    assert (len(snapshot.agents.rows), len(snapshot.waiting), len(snapshot.waiting.classes)) == (20, 30, 10)
    assert len(snapshot.running) == 20


def test_zones_have_agents_of_different_speeds() -> None:
    snapshot = snapshot_of(20, 30, 10, zones=4)
    groups, speed = snapshot.groups.renew(), snapshot.agents.speed
    assert groups.sizes.tolist() == [5] * 4
    slowest, quickest = groups.least(speed), groups.most(speed)
    order = slowest.argsort()
    assert (quickest[order][:-1] < slowest[order][1:]).all()


def test_a_round_places_what_there_is_room_for() -> None:
    cost = measure_round(20, 30, 10, BALANCED, 4)
    assert (cost.agents, cost.waiting, cost.classes, cost.repeats) == (20, 30, 10, 4)
    # Some may wait for a better agent.
    assert 10 <= cost.placed <= 30
    assert 0 < cost.least_us <= cost.median_us <= cost.p99_us
    assert 0 < measure_round(5, 30, 30, BALANCED, 1).placed <= 10


def test_a_single_task_is_placed_by_the_planner_and_by_the_whole_scheduler() -> None:
    costs = list(measure_single(10, BALANCED, 3))
    assert [one.what for one in costs] == ["single", "single, whole decision", "single, after an end"]
    assert all((one.waiting, one.placed) == (1, 1) for one in costs)


def test_the_machine_is_calibrated() -> None:
    found = calibrate()
    assert found.loop_ns > 0
    assert found.multiply_ns > 0


def test_the_report_is_printed_and_written(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    given = ["speed", "--agents", "10", "--tasks", "20", "--repeats", "1", "--no-growth", "--json", str(file)]
    result = CliRunner().invoke(main, given, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(file.read_text())
    assert len(report["decisions"]) == 6
    assert report["growth"] == []
    assert len(report["calibration"]) == 2
    assert "calibration after: loop_ns" in result.output
