"""The comparison with other systems: the graphs are the same for all, ratios say who is ahead, and a peer
that cannot be had is reported while the others are measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import graphs
from bench.peers import __main__ as command
from bench.peers.environments import Peer, Unavailable, prepare
from bench.peers.measures import CALM, Measure
from bench.peers.picture import draw
from bench.peers.ratios import Comparison, Figures, Spread, amount, compare, table

_RATE = Measure("W1", "independent tasks", "tasks/s", True)
_TIME = Measure("W6_agent", "agent killed", "ms", False)


def test_the_layered_graph_is_always_the_same() -> None:
    graph = graphs.layered(100)
    assert len(graph) == 10_000
    assert graph["0-0"] == []
    assert graph["1-0"] == ["0-3", "0-94"]
    assert {len(before) for task, before in graph.items() if not task.startswith("0-")} == {2, 3}
    places = {task: at for at, task in enumerate(graph)}
    assert all(places[one] < places[task] for task, before in graph.items() for one in before)


def test_a_chain_ends_in_one_task_and_independent_tasks_all_end_it() -> None:
    assert graphs.last(graphs.chain(5)) == ["t4"]
    assert graphs.last(graphs.independent(3)) == ["t0", "t1", "t2"]


def test_more_than_one_is_better_for_rates_and_for_times() -> None:
    runs: list[tuple[Figures, Figures]] = [
        ({"W1": 100.0, "W6_agent": 2.0}, {"W1": 50.0, "W6_agent": 8.0}),
        ({"W1": 300.0, "W6_agent": 2.0}, {"W1": 50.0, "W6_agent": 4.0}),
        ({"W1": 200.0, "W6_agent": 2.0}, {"W1": 50.0, "W6_agent": 6.0}),
    ]
    rate, time = compare("dask", [_RATE, _TIME], runs)
    assert rate.better == Spread(4.0, 2.0, 6.0)
    assert time.better == Spread(3.0, 2.0, 4.0)
    assert rate.as_json()["ours"] == {
        "median": 200.0, "min": 100.0, "max": 300.0, "unit": "tasks/s", "runs": [100.0, 300.0, 200.0]
    }  # fmt: skip


def test_what_does_not_come_about_in_time_is_said_and_is_null_in_json() -> None:
    (lost,) = compare("celery", [_RATE, _TIME], [({"W6_agent": 5.0}, {"W6_agent": None})])
    assert lost.better == Spread(math.inf, math.inf, math.inf)
    assert "not in time" in table([lost], {"celery": "Celery"})
    assert json.loads(json.dumps(lost.as_json(), allow_nan=False))["theirs"]["runs"] == [None]


@pytest.mark.parametrize(
    ("value", "words"), [(0.517, "0.52"), (12.34, "12.3"), (1234.5, "1,234"), (math.inf, "inf")]
)
def test_amounts_have_three_digits(value: float, words: str) -> None:
    assert amount(value) == words


def test_workloads_are_scaled_but_never_away() -> None:
    assert [workload.scaled(0.1).size for workload in CALM] == [1_000, 10, 50, 30]
    assert [workload.scaled(0.0).size for workload in CALM] == [1, 2, 1, 2]


def test_the_picture_names_every_peer(tmp_path: Path) -> None:
    found = [
        Comparison(_RATE, "dask", (200.0,), (100.0,)),
        Comparison(_TIME, "celery", (5.0,), (math.inf,)),
    ]
    file, again = tmp_path / "one.svg", tmp_path / "two.svg"
    for one in (file, again):
        draw(found, {"dask": "Dask", "celery": "Celery"}, one)
    assert "<!-- Dask 2.00 -->" in file.read_text()
    assert "<!-- Celery: not in time -->" in file.read_text()
    assert file.read_bytes() == again.read_bytes()


def test_a_peer_needs_its_programs_and_its_packages(tmp_path: Path) -> None:
    missing = Peer("x", "X", programs=(("no-such-program", "Debian: no-such-package"),))
    with pytest.raises(Unavailable, match=r"no-such-program .*Debian: no-such-package"):
        prepare(missing, tmp_path)
    with pytest.raises(Unavailable, match=r"could not install \./no-such-folder: ERROR"):
        prepare(Peer("y", "Y", packages=("./no-such-folder",)), tmp_path)


def test_a_peer_that_is_missing_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Double:
        versions = {"other": "1.0"}

        def run(self, workload: str, size: int) -> Figures:
            return {workload: float(size), f"{workload}_p99": 1.0}

    @contextmanager
    def opened(*_: object) -> Iterator[Double]:
        yield Double()

    absent = Peer("celery", "Celery", programs=(("no-such-program", "Debian: no-such-package"),))
    monkeypatch.setattr(command, "PEERS", (absent, Peer("dask", "Dask")))
    monkeypatch.setattr(command, "Program", opened)
    monkeypatch.setattr(command, "Ours", opened)
    file = tmp_path / "peers.json"
    result = CliRunner().invoke(command.main, ["--runs", "2", "--json", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "celery: not measured: there is no no-such-program" in result.output
    report = json.loads(file.read_text())
    assert list(report["missing"]) == ["celery"]
    assert report["versions"]["other"] == "1.0"
    assert report["workloads"]["W1"]["dask"]["ours"]["runs"] == [10_000, 10_000]
    assert list(report["workloads"]) == ["W1", "W2", "W3", "W4", "W4_p99", "W6_agent"]
    assert file.with_suffix(".svg").exists()
