"""Every program that measures, run for real and too small to measure anything."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bench import __main__ as suite
from bench import consensus, crowd, forecast, profile, snapshot, soak
from bench.catalogue import WORKLOADS
from bench.puts import Load
from bench.sizes import LEAST_BACKLOG
from bench.steadiness import Window
from bench.usage import LEADER


def run(program: click.Command, *given: str, file: Path) -> Result:
    return CliRunner().invoke(program, [*given, "--json", str(file)], catch_exceptions=False)


def report_of(file: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(file.read_text())
    assert report["machine"]["cores"] > 0
    assert report["versions"]["quorumflow"]
    return report


def test_the_whole_suite_runs(tmp_path: Path) -> None:
    file = tmp_path / "suite.json"
    result = run(suite.main, "--scale", "0.01", "--runs", "1", file=file)
    assert result.exit_code == 0, result.output
    report = report_of(file)
    assert report.keys() == {"machine", "versions", "workloads", "scale"}
    assert list(report["workloads"]) == [kind.key for one in WORKLOADS for kind in one.tells]
    assert all(figure["median"] > 0 for figure in report["workloads"].values())
    # Each figure has the cost of what it is a figure of.
    costs = {key: figure.get("cpu_us") for key, figure in report["workloads"].items()}
    assert costs["W7"] == costs["W7_p99"]
    assert costs["W7_8"] != costs["W7_8_calls"]
    assert [key for key in costs if key.startswith("W8") and costs[key]] == ["W8_submit"]


def test_a_soak_says_what_was_asked_for_and_whether_it_is_flat(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    given = ("--minutes", "0.06", "--windows", "6", "--rate", "40", "--tasks", "2")
    result = run(soak.main, *given, file=file)
    assert ("NOT FLAT" in result.output) == bool(result.exit_code)
    report = report_of(file)
    assert report["plan"] == {"minutes": 0.06, "windows": 6, "rate": 40, "tasks": 2}
    assert len(report["workloads"]["W8_soak_p99"]["runs"]) == 6


def test_a_load_that_is_too_much_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_MOST_UNDER_WAY", 0)
    given = ("--minutes", "0.06", "--windows", "6", "--rate", "40")
    result = run(soak.main, *given, file=tmp_path / "soak.json")
    assert result.exit_code == 1
    assert "Error: 0 DAGs are under way: the cluster does not keep up; ask for less" in result.output


def test_the_windows_of_a_soak_are_kept_when_it_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stands_still(*given: Any) -> None:
        given[-1].extend([Window.of([1.0, 2.0], 90.0)] * 2)
        raise TimeoutError("it stands still")

    monkeypatch.setattr(soak, "_sustain", stands_still)
    file = tmp_path / "soak.json"
    result = run(soak.main, "--minutes", "0.06", "--windows", "6", "--rate", "40", file=file)
    assert result.exit_code == 1
    assert "Error: it stands still" in result.output
    report = report_of(file)
    assert report["complete"] is False
    assert report["workloads"]["W8_soak"]["runs"] == [1.5, 1.5]


def test_a_window_without_ends_is_said_to_be_one() -> None:
    with pytest.raises(RuntimeError, match=r"^1 DAGs have ended in a window: there is no p99 of so few$"):
        Window.of([1.0], 90.0)


def test_the_first_runs_of_a_crowd_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, runs = crowd._run, count()

    def once(*given: Any) -> Any:
        if next(runs):
            raise TimeoutError("nobody came back")
        return whole(*given)

    monkeypatch.setattr(crowd, "_run", once)
    monkeypatch.setattr(crowd, "_IDLE_S", 0.1)
    file = tmp_path / "crowd.json"
    result = run(crowd.main, "--agents", "2", "--runs", "2", file=file)
    assert "Error: nobody came back" in result.output
    report = report_of(file)
    assert report["complete"] is False
    assert len(report["workloads"]["back"]["runs"]) == 1


def test_a_crowd_comes_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "crowd.json"
    result = run(crowd.main, "--agents", "4", "--runs", "1", file=file)
    assert result.exit_code == 0, result.output
    report = report_of(file)
    assert report["plan"] == {"agents": 4}
    assert report["workloads"]["back"]["median"] > 0


def test_a_crowd_is_shared_evenly(tmp_path: Path) -> None:
    result = run(crowd.main, "--agents", "5", file=tmp_path / "crowd.json")
    assert result.exit_code == 2
    assert "take an even number" in result.output


def test_writes_are_compared_by_load_and_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "_LOADS", (Load(1, 1, 100, turns=2), Load(2, 2, 400)))
    file = tmp_path / "consensus.json"
    result = run(consensus.main, "--runs", "1", "--scale", "0.01", file=file)
    assert result.exit_code == 0, result.output
    report = report_of(file)
    assert report["scale"] == 0.01
    assert list(report["clients x at once"]) == ["1 x 1", "2 x 2"]
    for sides in report["clients x at once"].values():
        assert sides["quorumflow, stream"][0]["per_s"] > 0


def test_commits_go_on_while_a_snapshot_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.json"
    given = ("--tasks", "50000", "--rounds", "1", "--quiet-s", "0.5")
    settings = ("--set", "raft.compact_after_entries=40", "--set", "raft.keep_entries=10")
    result = run(snapshot.main, *given, *settings, file=file)
    assert result.exit_code == 0, result.output
    assert report_of(file)["commits"]["ratio_p99"] > 0


def test_a_transfer_too_short_to_be_measured_is_said_to_be_so() -> None:
    with pytest.raises(
        RuntimeError, match=r"^1 commits during a transfer, and 2 are needed: take longer, or"
    ):
        snapshot._show("during a transfer", [1.0])


def test_a_setting_without_a_value_is_refused(tmp_path: Path) -> None:
    result = run(snapshot.main, "--set", "raft.keep_entries", file=tmp_path / "snapshot.json")
    assert result.exit_code == 2
    assert "raft.keep_entries is not KEY=VALUE" in result.output


def test_a_profile_is_drawn_and_told_by_stage(tmp_path: Path) -> None:
    picture = tmp_path / "new" / "w7.svg"
    given = ["W7", "--seconds", "0.1", "--out", str(picture)]
    result = CliRunner().invoke(profile.main, given, catch_exceptions=False)
    if "could not look into the leader" in result.output:
        pytest.skip("this system does not let a process trace another")
    assert result.exit_code == 0, result.output
    assert "<svg" in picture.read_text()
    assert "replicate" in result.output


def test_forecasts_are_costed_and_scored(tmp_path: Path) -> None:
    file = tmp_path / "forecast.json"
    assert run(forecast.main, "--traces", "2", file=file).exit_code == 0
    report = json.loads(file.read_text())
    assert report["errors short 60 s"]["naive"] == 1.0
    assert report["cost short"]["step"] > 0


def test_a_backlog_too_small_to_be_worked_beside_is_refused(tmp_path: Path) -> None:
    result = run(suite.main, "--only", "W8", "--backlog", str(LEAST_BACKLOG - 1), file=tmp_path / "w8.json")
    assert result.exit_code == 2
    assert f"x>={LEAST_BACKLOG}" in result.output


def test_what_was_measured_before_a_failure_is_kept_and_said_to_be_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = suite.run_all

    def broken_off(*given: Any) -> Any:
        yield next(whole(*given))
        raise TimeoutError("the machine has gone away")

    monkeypatch.setattr(suite, "run_all", broken_off)
    file = tmp_path / "part.json"
    result = run(suite.main, "--only", "W7", "--runs", "1", "--scale", "0.001", file=file)
    assert result.exit_code == 1
    assert "Error: the machine has gone away" in result.output
    report = report_of(file)
    assert report["complete"] is False
    assert report["workloads"]["W7"]["cpu_us"].keys() >= {LEADER}
