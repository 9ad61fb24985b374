"""Each objective moves when its weight does, and what that costs is seen: small cases, on virtual time. E1,
E3, E4, J3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.placement.__main__ import main
from bench.placement.studies import STUDIES, balance, deadline, energy, fairness, gpu, locality, rhythm
from bench.placement.study import Axis, Point, Study, StudyReport, baseline, mean_point, study_lines
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import Policy, Weights


def once(**weights: float) -> Policy:
    return Policy("once", Weights(**weights), rivals=1)


def test_weight_on_balance_evens_out_the_use_of_agents_under_sustained_load() -> None:
    without, some, much = (
        balance.run(once(balance=weight), 1, comes_for_s=60.0) for weight in (0.0, 1.0, 4.0)
    )
    assert without["spread"] > 1.5 * some["spread"] > 1.5 * much["spread"]
    assert much["used"] > without["used"]


def test_weight_on_energy_saves_joules_and_takes_longer() -> None:
    without, much = (energy.run(once(energy=weight), 1, layers=4) for weight in (0.0, 8.0))
    assert much["kilojoules"] < 0.75 * without["kilojoules"]
    assert much["makespan_s"] > without["makespan_s"]
    assert energy.run(once(), 1, layers=4)["makespan_s"] < energy.run(baseline(), 1, layers=4)["makespan_s"]


def test_weight_on_communication_moves_less() -> None:
    without, some, much = (
        locality.run(once(communication=weight), 1, pipelines=8) for weight in (0.0, 1.0, 8.0)
    )
    assert without["gigabytes"] > some["gigabytes"] > much["gigabytes"]
    assert some["communication_s"] == pytest.approx(some["gigabytes"] * 1e9 / 125e6)


@pytest.mark.parametrize("policy", [once(), baseline()])
def test_a_namespace_gets_its_part_by_weight(policy: Policy | Simple) -> None:
    even, much = (fairness.run(policy, 1, weight, tasks=100) for weight in (1.0, 4.0))
    assert even["share"] == pytest.approx(50.0, abs=5.0)
    assert much["share"] == pytest.approx(80.0, abs=8.0)
    assert much["other_s"] > even["other_s"]


def test_deadlines_that_are_said_are_met_at_the_cost_of_others() -> None:
    silent, told = (deadline.run(once(), 1, said, comes_for_s=30.0) for said in (0.0, 1.0))
    assert told["met"] > silent["met"] + 10
    assert told["others_s"] > silent["others_s"]
    assert told["per_minute"] > 0.95 * silent["per_minute"]


def test_weight_on_energy_keeps_others_away_from_what_model_calls_need() -> None:
    without, much = (gpu.run(once(energy=weight), 1, comes_for_s=40.0) for weight in (0.0, 4.0))
    assert much["calls_s"] < 0.8 * without["calls_s"]
    assert much["gpu_used"] >= without["gpu_used"]
    assert much["others_s"] > without["others_s"]


def test_forecasts_spare_tasks_that_last_the_load_that_comes_back() -> None:
    balanced = once(balance=0.5, communication=0.25, energy=0.1)
    by_last, by_forecast = (
        rhythm.run(balanced, 1, 1_200.0, foresees=foresees, comes_for_s=9_000.0) for foresees in (False, True)
    )
    assert (by_last["foreseen"], by_forecast["foreseen"]) == (0.0, 100.0)
    assert by_forecast["slowest_s"] < 0.95 * by_last["slowest_s"]
    assert by_forecast["response_s"] < 1.02 * by_last["response_s"]


STUDY = Study(
    "small",
    "What of it?",
    "weight",
    Axis("cost", "time", "s"),
    Axis("gain", "bytes", "B", ".0f"),
    required=10.0,
)


def points(seeds: Sequence[int]) -> list[Point]:
    runs = [{"cost": 1.0 + seed, "gain": 10.0 * seed} for seed in seeds]
    return [
        mean_point("small", "0", runs),
        mean_point("small", "1", runs),
        mean_point("least-loaded", "", runs),
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a command whose study takes no time: it is asked for under the name of a real one."""
    monkeypatch.setitem(STUDIES, "energy", (STUDY, points))
    return "energy"


def test_a_report_has_every_setting_and_what_is_asked_for() -> None:
    lines = list(study_lines(StudyReport(STUDY, {"seeds": [1, 3]}, points([1, 3]))))
    assert lines[0] == "What of it?"
    assert lines[1] == "settings: seeds [1, 3]"
    assert [line.split() for line in lines[3:]] == [
        ["weight", "bytes", "[B]", "time", "[s]"],
        ["small", "0", "20", "3.0"],
        ["small", "1", "20", "3.0"],
        ["least-loaded", "20", "3.0"],
        ["required:", "bytes", "at", "most", "10", "B"],
    ]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_command_prints_writes_and_draws(suffix: str, tmp_path: Path, small: str) -> None:
    file, picture = tmp_path / "deep" / "small.json", tmp_path / f"small.{suffix}"
    given = [small, "--seeds", "1", "--json", str(file), "--picture", str(picture)]
    result = CliRunner().invoke(main, given, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(file.read_text())
    assert report["settings"] == {"seeds": [1]}
    assert [point["figures"]["gain"] for point in report["points"]] == [10.0, 10.0, 10.0]
    before = picture.read_bytes()
    assert len(before) > 1_000
    CliRunner().invoke(main, given, catch_exceptions=False)
    assert picture.read_bytes() == before


def test_a_picture_that_cannot_be_is_an_error(tmp_path: Path, small: str) -> None:
    result = CliRunner().invoke(main, [small, "--picture", str(tmp_path / "small.what")])
    assert result.exit_code == 1
    assert "no picture was drawn" in result.output
