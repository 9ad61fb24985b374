"""The scenarios of J5, small: what they measure can be, and what is asked for stands beside it."""

from __future__ import annotations

from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from examples.scenarios import __main__ as program
from examples.scenarios import data_processing, drones, traffic
from examples.scenarios.findings import Finding, Scenario, less


def found(scenario: Scenario) -> dict[str, float]:
    """The first figure of each name."""
    figures: dict[str, float] = {}
    for one in scenario.findings:
        figures.setdefault(one.what, one.value)
    return figures


def test_nodes_that_fail_cost_no_task_and_a_surge_is_signalled() -> None:
    figures = found(data_processing.run(nodes=40))
    assert figures["availability"] == 100
    assert 0 < figures["signal to scale"] <= 45
    assert figures["utilisation"] > figures["utilisation before"] > 50
    assert figures["completion time"] > 0


def test_incidents_are_answered_in_time_by_tasks_that_were_made_at_run_time() -> None:
    figures = found(traffic.run(junctions=60))
    assert 0.5 < figures["response, mean"] <= figures["response"]
    assert figures["made at run time"] == pytest.approx(100 * 5 / 6)


def test_drones_fly_what_their_batteries_allow_and_what_fails_is_flown_again() -> None:
    figures = found(drones.run(drones=12, missions=80))
    assert figures["success"] == 100
    assert figures["battery use"] > 85
    assert figures["failed flights"] > 0


def finding(value: float, **bound: float) -> Finding:
    return Finding("figure", value, "s", "here", **bound)


@pytest.mark.parametrize(
    ("one", "met", "asked"),
    [
        (finding(2.0, at_least=2.0), True, ">= 2 s"),
        (finding(1.9, at_least=2.0), False, ">= 2 s"),
        (finding(2.0, at_most=2.0), True, "<= 2 s"),
        (finding(float("inf"), at_most=2.0), False, "<= 2 s"),
        (finding(2.0), None, ""),
    ],
)
def test_a_figure_keeps_to_its_bound_or_not(one: Finding, met: bool | None, asked: str) -> None:
    assert (one.met, one.asked) == (met, asked)


def test_what_is_less_is_said_in_percent_of_the_other() -> None:
    assert less(3.0, 4.0) == 25.0


def test_the_program_shows_what_was_missed_and_its_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = (Scenario("some", "a story", [finding(value, at_most=2.0)]) for value in (1.0, 3.0))
    monkeypatch.setattr(program, "SCENARIOS", {"drones": lambda: good, "traffic": lambda: bad})
    assert CliRunner().invoke(program.main, ["drones"]).exit_code == 0
    result = CliRunner().invoke(program.main, ["drones", "traffic"])
    assert result.exit_code == 1
    console = Console(file=StringIO(), width=120)
    console.print(bad)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "MISSED" in written
    assert "<= 2 s" in written
