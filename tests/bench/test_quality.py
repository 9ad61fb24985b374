"""The report on the quality of plans: what it holds, what counts as history, and that neither bad files nor
the number of processes change the rest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.placement.__main__ import main
from bench.placement.cases import BASELINES, OURS, Case, Outcome, cases_of, run
from bench.placement.instances import Instance, instance_of, read_folder
from bench.placement.knowledge import Knowledge, histories, tell
from bench.placement.quality import Ratios, geometric_mean
from bench.placement.workload import profile_of
from coordinator.core.kinds import kind_of, read_log2
from coordinator.core.model import DataItem
from coordinator.scheduling.costs.weights import FAST
from coordinator.scheduling.snapshot import Snapshot
from tests.bench.graphs import wfformat

NOISY = [one for one in Knowledge if one is not Knowledge.EXACT]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two of an application, one of another."""
    diamond = {
        "split_1": (4.0, []),
        "work_1": (9.0, ["split_1"]),
        "work_2": (7.0, ["split_1"]),
        "join_1": (2.0, ["work_1", "work_2"]),
    }
    wide = {"split_1": (3.0, []), **{f"work_{at}": (5.0 + at, ["split_1"]) for at in range(5)}}
    (tmp_path / "fan-site-001.json").write_text(wfformat("fan", diamond))
    (tmp_path / "fan-site-002.json").write_text(wfformat("fan", wide))
    (tmp_path / "lone-site-001.json").write_text(wfformat("lone", {"only_1": (6.0, [])}))
    return tmp_path


def measure(folder: Path, *arguments: str) -> tuple[Result, dict[str, Any]]:
    """With one process unless told otherwise; what was printed, and what was written."""
    file = folder / "out" / "report.json"
    given = ["quality", "--instances", str(folder), "--agents", "3", "--json", str(file), "--jobs", "1"]
    result = CliRunner().invoke(main, [*given, *arguments], catch_exceptions=False)
    return result, json.loads(file.read_text()) if file.exists() else {}


def test_the_report_has_ours_and_every_baseline_under_the_same_keys(folder: Path) -> None:
    result, report = measure(folder)
    assert result.exit_code == 0
    keys = ["exact", "noisy_oracle", "noisy_cold", "noisy_warm"]
    assert list(report["ours"]) == keys
    assert {"heft", "static_heft", "cpop", "peft", "minmin", "maxmin", "fifo_pull", "least_loaded"} <= set(
        report["baselines"]
    )
    assert {"least_loaded_stealing", "power_of_two"} <= set(report["baselines"])
    assert all(list(one) == keys for one in report["baselines"].values())
    assert all(isinstance(ratio, float) for ratio in report["ours"].values())
    assert report["baselines"]["heft"] == dict.fromkeys(keys, 1.0)
    assert report["baselines"]["static_heft"]["exact"] == 1.0
    assert [(one["name"], one["tasks"]) for one in report["instances"]] == [
        ("lone-site-001", 1),
        ("fan-site-001", 4),
        ("fan-site-002", 6),
    ]
    for name in ("geometric mean", "worst run", *BASELINES, "lone-site-001"):
        assert name in result.output


def test_the_figures_are_geometric_means_over_instances_of_those_over_seeds(folder: Path) -> None:
    _, report = measure(folder, "--seeds", "4,5")
    each = [one["ours"]["noisy_cold"] for one in report["instances"]]
    assert report["ours"]["noisy_cold"] == pytest.approx(math.prod(each) ** (1 / 3), abs=1e-5)
    assert report["worst"]["ours"]["noisy_cold"] >= max(each)
    instance = read_folder(folder)[0][1]
    runs = [run(Case(instance, 3, seed, Knowledge.NOISY_COLD, FAST, {}, ())) for seed in (4, 5)]
    mean = geometric_mean(one.ratios[OURS][0] for one in runs)
    assert report["instances"][1]["ours"]["noisy_cold"] == mean


def test_a_workflow_without_relatives_has_no_warm_run(folder: Path) -> None:
    _, report = measure(folder)
    lone, *fans = report["instances"]
    assert lone["ours"]["noisy_warm"] is None
    assert lone["baselines"]["least_loaded"]["noisy_warm"] is None
    assert all(one["ours"]["noisy_warm"] is not None for one in fans)
    # All are compared over the same workflows.
    both = [one["baselines"]["least_loaded"]["noisy_oracle"] for one in fans]
    assert report["baselines"]["least_loaded"]["noisy_warm"] == pytest.approx(
        math.prod(both) ** 0.5, abs=1e-5
    )
    (folder / "fan-site-002.json").unlink()
    assert measure(folder)[1]["ours"]["noisy_warm"] is None


def test_history_is_that_of_all_others_of_the_application(folder: Path) -> None:
    instances, _ = read_folder(folder)
    found = histories(instances)
    assert found.keys() == {"fan-site-001", "fan-site-002"}
    works = [math.log(7.0), math.log(9.0)]
    mean = sum(works) / 2
    hint = -read_log2([DataItem("split_1.out", 1_000)])
    kind, read = kind_of(profile_of("work"), hint), math.log(1_000)
    squares = sum(work * work for work in works)
    assert found["fan-site-002"][kind].tolist() == pytest.approx(
        [2, sum(works), squares, 2 * read, 2 * read**2, read * sum(works)], rel=1e-3
    )
    snapshot = Snapshot()
    tell(snapshot.estimates, found["fan-site-002"])
    expected = snapshot.estimates.work(kind, 1, hint)
    assert math.log(expected.seconds) == pytest.approx(mean, abs=0.1)


def test_only_what_is_asked_for_is_run(folder: Path) -> None:
    _, report = measure(folder, "--only", "exact")
    assert [name for name, ratio in report["ours"].items() if ratio is not None] == ["exact"]
    assert report["baselines"]["minmin"]["noisy_cold"] is None


def test_the_number_of_processes_changes_nothing(folder: Path) -> None:
    reports = [measure(folder, "--seeds", "1", "--jobs", jobs)[1] for jobs in ("1", "2")]
    for report in reports:
        del report["machine"]
        for one in report["instances"]:
            del one["took_s"]
    assert reports[0] == reports[1]


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_measured(folder: Path) -> None:
    (folder / "cut.json").write_text("{")
    result, report = measure(folder, "--only", "exact")
    assert result.exit_code == 0
    assert [one[0] for one in report["unreadable"]] == ["cut.json"]
    assert "cut.json: " in result.output
    assert len(report["instances"]) == 3


def test_an_empty_folder_gives_an_empty_report(tmp_path: Path) -> None:
    result, report = measure(tmp_path)
    assert result.exit_code == 0
    assert "no workflows" in result.output
    assert set(report["ours"].values()) == {None}
    assert report["instances"] == []


def test_one_agent_runs_everything(folder: Path) -> None:
    result, report = measure(folder, "--agents", "1", "--only", "exact,noisy_cold", "--seeds", "1")
    assert result.exit_code == 0
    # Without a choice all are alike, but for what begins while others could.
    assert report["ours"]["exact"] == pytest.approx(1.0, abs=1e-3)
    assert report["baselines"]["fifo_pull"]["exact"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--seeds", "1,x"], "whole numbers"),
        (["--seeds", "1,1"], "each seed once"),
        (["--seeds", "-1"], "none below 0"),
        (["--only", "exact,hot"], "there is no hot"),
        (["--policy", "slow"], "'slow' is not one of"),
        (["--agents", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_asked_for_is_said(folder: Path, arguments: list[str], complaint: str) -> None:
    result, report = measure(folder, *arguments)
    assert result.exit_code == 2
    assert complaint in result.output
    assert not report


def test_a_run_that_fails_is_an_outcome_of_its_own() -> None:
    broken = Instance("broken-1", "broken", instance_of("x", work=[1.0], depends=[()], edge_bytes=[()]).work,
                      ["a"], [(7,)], [()], [(1,)], [1])  # fmt: skip
    case = Case(broken, 2, None, Knowledge.EXACT, FAST, {}, ())
    outcome = run(case)
    assert outcome.failure
    ratios = Ratios(list(Knowledge))
    ratios.take(case, outcome)
    report = ratios.report(broken)
    assert report.ours[Knowledge.EXACT] is None
    assert len(report.failures) == 1
    assert report.failures[0].startswith("broken-1, exact: ")


def test_a_baseline_under_noise_stands_beside_every_degree_of_knowledge() -> None:
    instance = instance_of("x-1", work=[1.0], depends=[()], edge_bytes=[()])
    cases = cases_of(
        [instance],
        {"x-1": {kind_of(profile_of(""), 0): np.array([1.0, 0, 0, 0, 0, 0])}},
        agents=2,
        seeds=[9],
        policy=FAST,
        only=NOISY,
    )
    assert [case.knowledge for case in cases] == [None, *NOISY]
    ratios = Ratios(NOISY)
    ratios.take(cases[0], Outcome({"minmin": [2.0]}, 0.1))
    _, baselines = ratios.means([instance])
    assert baselines["minmin"] == {Knowledge.EXACT: None, **dict.fromkeys(NOISY, 2.0)}


def test_recorded_workflows_are_planned_about_as_well_as_by_heft(data: Path) -> None:
    instances, _ = read_folder(data / "wfinstances")
    for instance in instances[:3]:
        outcome = run(Case(instance, 20, None, Knowledge.EXACT, FAST, {}, ()))
        assert not outcome.failure
        assert outcome.ratios[OURS][0] <= 1.05
