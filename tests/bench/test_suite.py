"""The benchmark suite: what is chosen, what is said of runs, and a real run too short to measure anything."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bench import profile
from bench.__main__ import main
from bench.catalogue import WORKLOADS
from bench.figures import Figure, Kind, Outcome, Usage, figures
from bench.fleet import Crew
from bench.profile import Profiler, ProfilerFailed
from bench.puts import Load
from bench.sizes import Sizes
from bench.steadiness import Verdict, Window
from bench.suite import Workload, select, shared_stages
from bench.usage import AGENTS, CLIENT, FOLLOWER, LEADER, Meter

ISSUED = {
    *("W1", "W1s", "W1u", "W2", "W3", "W4", "W4_p99", "W5", "W6_agent", "W6_leader"),
    *("W7", "W7_p99", "W7_100", "W8_bytes", "W8_restart"),
}
"""The keys of figures that other programs read."""

amounts = st.floats(0, 1e9)


def nothing(stage: object, sizes: object) -> Outcome:
    raise AssertionError("nobody asked for a run")


def workload(name: str, **given: Any) -> Workload:
    return Workload(name, [Kind(name, name, "ms")], nothing, **given)


# --- what is chosen -----------------------------------------------------------------------------------------


def test_every_figure_that_is_read_elsewhere_is_told_once() -> None:
    keys = [kind.key for one in WORKLOADS for kind in one.tells]
    assert set(keys) >= ISSUED
    assert len(set(keys)) == len(keys)
    assert len({one.name for one in WORKLOADS}) == len(WORKLOADS)


def test_the_quick_suite_has_w1_to_w4_and_w7() -> None:
    names = {one.name for one in select(WORKLOADS, [], quick=True)}
    assert names == {"W1", "W2", "W3", "W4", "W7", "W7_stream"}


def test_named_workloads_are_chosen_in_the_order_of_the_suite() -> None:
    assert [one.name for one in select(WORKLOADS, ["W3", "W8", "W1"], quick=False)] == ["W1", "W3", "W8"]
    assert [one.name for one in select(WORKLOADS, ["W8"], quick=True)] == ["W8"]
    assert select(WORKLOADS, [], quick=False) == list(WORKLOADS)


def test_a_workload_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    result = CliRunner().invoke(main, ["--only", "W9"])
    assert result.exit_code == 2
    assert "there is no workload W9; there are W1, W1u" in result.output


def test_neighbours_with_one_crew_share_a_stage_and_long_ones_have_their_own() -> None:
    few = Crew(1)
    row = [workload("a"), workload("b"), workload("c", crew=few), workload("d")]
    long = [workload("e", crew=None, once=True), workload("f", crew=None, once=True)]
    shared = [[one.name for one in sharing] for sharing in shared_stages(row + long)]
    assert shared == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]


@given(st.floats(1e-6, 1))
def test_a_scaled_suite_does_less_but_something(scale: float) -> None:
    assert all(0 < small <= full for small, full in zip(Sizes().scaled(scale), Sizes(), strict=True))


def test_the_whole_suite_is_its_own_scale() -> None:
    assert Sizes().scaled(1.0) == Sizes()


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 10_000))
def test_a_turn_of_writes_has_as_many_as_asked_shared_evenly(clients: int, at_once: int, writes: int) -> None:
    load = Load(clients, at_once, writes)
    assert writes <= load.writers * load.of_each < writes + load.writers
    assert load.all_writes > load.writers * load.of_each


# --- what is said of runs -----------------------------------------------------------------------------------


@given(st.lists(amounts, min_size=1, max_size=9))
def test_a_figure_has_median_and_spread_of_its_runs(runs: list[float]) -> None:
    kind = Kind("W0", "nothing", "ms")
    told = figures([Outcome({"W0": run}) for run in runs], [kind])
    assert told == {
        kind: Figure(median=statistics.median(runs), min=min(runs), max=max(runs), unit="ms", runs=runs)
    }
    assert told[kind].cost("task") == ""


def test_the_cost_of_a_figure_is_the_median_of_cpu_time_and_the_highest_peak() -> None:
    usages = [Usage({LEADER: us, AGENTS: 1.0}, {LEADER: mib}) for us, mib in ((10, 90), (30, 70), (11, 80))]
    kinds = [Kind("p50", "", "ms"), Kind("p99", "", "ms")]
    told = figures([Outcome.at(usage, {"p50": 1.0, "p99": 2.0}) for usage in usages], kinds)
    for kind in kinds:
        assert told[kind].cpu_us == {LEADER: 11, AGENTS: 1}
        assert told[kind].peak_mib == {LEADER: 90}
    assert told[kinds[0]].cost("write") == "CPU us per write: leader 11, agents 1; peak MiB: leader 90"


def windows(p99: list[float], mib: list[float]) -> list[Window]:
    return [Window(100, 1.0, one, other) for one, other in zip(p99, mib, strict=True)]


@pytest.mark.parametrize(
    ("p99", "mib", "flat"),
    [
        ([9, 9, 2, 2, 2, 2], [10, 100, 101, 102, 104, 105], True),
        ([9, 9, 2, 2, 2, 4], [10, 100, 101, 102, 104, 105], True),
        ([9, 9, 2, 2, 4, 4], [10, 100, 101, 102, 104, 105], False),
        ([9, 9, 2, 2, 2, 2], [10, 100, 103, 106, 109, 112], False),
        ([9, 9, 2, 2, 2, 2], [300, 100, 90, 90, 90, 90], True),
    ],
)
def test_a_soak_is_flat_if_after_its_warm_up_neither_memory_nor_p99_grow(
    p99: list[float], mib: list[float], flat: bool
) -> None:
    assert Verdict.of(windows(p99, mib)).flat is flat


def test_a_window_has_the_percentiles_of_its_dags() -> None:
    window = Window.of([float(took) for took in range(1, 100)], 50.0)
    assert window == Window(99, 50.0, 99.0, 50.0)


# --- what is measured ---------------------------------------------------------------------------------------


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Processes that use no CPU time."""
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def test_a_meter_tells_who_used_the_time(sleepers: list[int]) -> None:
    meter = Meter({LEADER: [os.getpid()], FOLLOWER: sleepers})
    block = bytearray(1 << 26)
    before = os.times()
    while (spent := os.times().user - before.user) < 0.1:
        block[0] += 1
        block[0] %= 100
    usage = meter.read(10)
    assert usage.cpu_us[LEADER] >= spent / 10 * 1e6 * 0.8
    assert usage.cpu_us[FOLLOWER] < usage.cpu_us[LEADER] / 2
    assert usage.peak_mib[LEADER] > len(block) / 2**20
    assert 0 < usage.peak_mib[FOLLOWER] < usage.peak_mib[LEADER]


def test_a_process_that_cannot_be_profiled_is_said_to_be_so(sleepers: list[int], tmp_path: Path) -> None:
    with (
        pytest.raises(ProfilerFailed, match="could not look into the leader"),
        Profiler(sleepers[0], tmp_path / "x.svg", rate=10, gil=False),
    ):
        pass


def test_a_profiler_that_is_not_there_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(profile, "_PROGRAM", "no-such-profiler")
    with pytest.raises(
        ProfilerFailed, match=r"no-such-profiler is not installed: pip install -e '\.\[bench\]'"
    ):
        Profiler(os.getpid(), tmp_path / "x.svg", rate=10, gil=False)


def test_a_run_reports_its_figures_with_what_they_cost(tmp_path: Path) -> None:
    file, folder = tmp_path / "report.json", tmp_path / "run"
    names = ("W1", "W7", "W6_agent")
    only = [part for name in names for part in ("--only", name)]
    given = [*only, "--runs", "2", "--scale", "0.001", "--json", str(file), "--keep", str(folder)]
    result = CliRunner().invoke(main, given, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(file.read_text())
    assert report.keys() == {"machine", "versions", "workloads", "scale"}
    assert list(report["workloads"]) == ["W1", "W7", "W7_p99", "W6_agent"]
    for key, figure in report["workloads"].items():
        assert figure.keys() >= {"median", "min", "max", "unit", "runs"}
        assert len(figure["runs"]) == 2
        assert 0 < figure["min"] <= figure["median"] <= figure["max"]
        assert key in result.output
    assert report["workloads"]["W1"]["cpu_us"].keys() == {LEADER, FOLLOWER, AGENTS, CLIENT}
    assert report["workloads"]["W1"]["peak_mib"].keys() == {LEADER, FOLLOWER, AGENTS, CLIENT}
    assert report["workloads"]["W7_p99"]["median"] >= report["workloads"]["W7"]["median"]
    assert "CPU us per write: leader" in result.output
    # Nothing is left of the data, and all that is left tells what happened.
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".log", ""}
