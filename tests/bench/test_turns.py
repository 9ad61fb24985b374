"""Two versions by turns: what pairs of runs say, and a real run of this version beside itself."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import turns
from bench.figures import Outcome
from bench.turns import Pair, Ratios, main


@pytest.mark.parametrize(
    ("by_clusters", "wanted"),
    [
        pytest.param([[(2.0, 1.0)]], (2.0, 1.0, 0.5, 0.5, 0.5), id="one pair"),
        pytest.param([[(1, 2), (4, 4), (2, 3)]], (2, 3, 1.5, 1.5, 1.5), id="of pairs, not of medians"),
        pytest.param([[(1, 1), (1, 1), (1, 1)], [(1, 2)], [(2, 1)]], (1, 1, 1, 0.5, 2), id="clusters differ"),
    ],
)
def test_ratios_are_those_within_pairs_and_their_spread_is_that_of_clusters(
    by_clusters: list[list[tuple[float, float]]], wanted: tuple[float, ...]
) -> None:
    assert Ratios.of(by_clusters) == wanted


def test_what_is_too_small_to_be_counted_has_no_ratio() -> None:
    assert Ratios.of([[(0.0, 1.0), (1.0, 1.0)]]) is None
    assert Ratios.of([[(1.0, 0.0)]]) is None


def test_a_version_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path} has no .venv/bin/python: run `make install` there" in result.output


def test_a_workload_whose_leader_is_killed_cannot_be_repeated(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path), "--only", "W6_leader"])
    assert result.exit_code == 2
    assert "there is no workload W6_leader" in result.output


def test_what_was_measured_before_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    pair = Pair(Outcome({"W3": 2.0}), Outcome({"W3": 1.0}))

    def fails_at_the_second(*given: Any) -> list[list[Pair]]:
        if given[-1]:
            raise TimeoutError("it did not come up")
        return [[pair]]

    monkeypatch.setattr(turns, "_take_turns", fails_at_the_second)
    file = tmp_path / "turns.json"
    result = CliRunner().invoke(main, [str(tmp_path), "--only", "W3", "--json", str(file)])
    assert result.exit_code == 1
    assert "Error: it did not come up" in result.output
    report = json.loads(file.read_text())
    assert report["complete"] is False
    assert report["workloads"]["W3"]["median"] == 0.5


def test_both_versions_run_each_with_its_own_interpreter_and_in_its_own_folder(tmp_path: Path) -> None:
    started = tmp_path / "started"
    python = tmp_path / "other" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$PWD $2" >>"{started}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    options = ["--only", "W3", "--pairs", "2", "--clusters", "1", "--scale", "0.01"]
    options += ["--json", str(tmp_path / "turns.json")]

    result = CliRunner().invoke(main, [str(tmp_path / "other"), *options])

    assert result.exit_code == 0, result.output
    assert re.search(r"^W3 +ms +[0-9.]+ there +[0-9.]+ here +[0-9.]+ times \[", result.output, re.MULTILINE)
    told = json.loads((tmp_path / "turns.json").read_text())["workloads"]
    assert told["W3"].keys() == {"there", "here", "median", "least", "greatest"}
    modules = ["coordinator"] * 3 + ["bench.fleet"] * 2
    assert started.read_text().splitlines() == [f"{tmp_path / 'other'} {module}" for module in modules]
