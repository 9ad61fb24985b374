"""What a drill's measurements are judged by, and what people and programs read of it. Answers I4, L3."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent_sdk import NodeStatus
from chaos.checking.history import Operation, Outcome
from chaos.checking.linearizability import Judgement, Verdict
from chaos.checking.promises import Check
from chaos.drills.drill import Outcome as DrillOutcome
from chaos.drills.incident import Incident
from chaos.drills.judging import (
    all_answered,
    all_overcome,
    elections,
    few_elections,
    linearizable,
    never_diverged,
    one_leader_per_term,
    within,
)
from chaos.drills.lookout import Sighting
from chaos.load.submissions import Acknowledged
from chaos.plan import Limit, parse_plan
from chaos.report import terminal
from chaos.report.files import write_report

BEGAN_MS = 1_700_000_000_000
VOID = {"meta", "line", "rect", "circle", "polygon", "br"}


def incident(**values: Any) -> Incident:
    given: dict[str, Any] = {
        "fault": "kill", "note": "", "nodes": ("n1",), "agents": (), "hit_leader": True, "majority": True,
        "leader_before": "n1", "leader_after": "n2", "at_ms": BEGAN_MS + 1_000, "healed_ms": BEGAN_MS + 2_000,
        "acknowledged_ms": 100, "assigned_ms": 90, "begun_ms": 95, "pause_ms": 120, "recovered_ms": 700,
    }  # fmt: skip
    return Incident(**(given | values))


def sighting(
    node: str, *, role: str = "follower", term: int = 1, index: int = 5, digest: str = "d"
) -> Sighting:
    return Sighting(
        BEGAN_MS,
        NodeStatus(
            id=node, role=role, term=term, applied_index=index, digest=digest, grpc_address="",
            raft_address="", last_log_index=index, draining=False, version="",
        ),
    )  # fmt: skip


def outcome(**values: Any) -> DrillOutcome:
    given: dict[str, Any] = {
        "plan": parse_plan("{summary: A <test>., tracks: [{faults: [kill]}]}", "mine", "mine.yaml"),
        "seed": 7,
        "nodes": ["n1", "n2", "n3"],
        "began_ms": BEGAN_MS,
        "ended_ms": BEGAN_MS + 10_000,
        "incidents": [incident(), incident(fault="churn", nodes=(), agents=("x", "y"), hit_leader=False)],
        "checks": [Check("all is well", True, "it is")],
        "acknowledged": [Acknowledged("d1", 5, BEGAN_MS + 10, BEGAN_MS + 500)],
        "problems": [],
        "tasks": 5,
        "completions_ms": [BEGAN_MS + 600],
        "elections": 1,
        "leaders": [(BEGAN_MS, 1, "n1"), (BEGAN_MS + 1_100, 2, "n2")],
    }
    return DrillOutcome(**(given | values))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (all_answered([]), all_answered(["timed out"])),
        (all_overcome([incident()]), all_overcome([incident(problem="n1 never came back")])),
        (
            one_leader_per_term([sighting("n1", role="leader"), sighting("n2", role="leader", term=2)]),
            one_leader_per_term([sighting("n1", role="leader"), sighting("n2", role="leader")]),
        ),
        (
            never_diverged([sighting("n1"), sighting("n2"), sighting("n2", index=6, digest="e")]),
            never_diverged([sighting("n1"), sighting("n2", digest="e")]),
        ),
        (few_elections(2, 2), few_elections(1, 0)),
        (
            linearizable([Judgement("k", Verdict.LINEARIZABLE)], []),
            linearizable([Judgement("k", Verdict.UNDECIDED)], []),
        ),
    ],
)  # fmt: skip
def test_each_promise_can_be_broken(good: Check, bad: Check) -> None:
    assert good.held
    assert not bad.held


def test_operations_without_an_answer_are_counted() -> None:
    unknown = Operation("r0", "get", "k", (), 0.0)
    known = Operation("r0", "get", "k", (), 0.0, 1.0, Outcome.OK)
    assert "2 operations, 1 of them without" in linearizable([], [unknown, known]).found


def test_terms_without_a_leader_count_as_elections_too() -> None:
    assert elections([]) == 0
    assert elections([sighting("n1", term=4), sighting("n2", term=4, role="leader")]) == 0
    assert elections([sighting("n1", term=4), sighting("n2", term=6), sighting("n1", term=5)]) == 2


def test_limits_look_at_the_faults_that_they_are_about() -> None:
    slow = [incident(), incident(acknowledged_ms=5_000), incident(acknowledged_ms=200)]
    others = [
        incident(hit_leader=False, acknowledged_ms=9_000),
        incident(majority=False, acknowledged_ms=9_000),
    ]
    median, worst = within([*slow, *others], Limit(measure="acknowledged", median_ms=200, worst_ms=4_999))
    assert (median.held, median.found) == (True, "200 ms")
    assert (worst.held, worst.found) == (False, "5000 ms")
    (everybody,) = within([*slow, *others], Limit(measure="acknowledged", of="all", worst_ms=8_999))
    assert (everybody.held, everybody.found) == (False, "9000 ms")
    assert within([], Limit(measure="acknowledged", worst_ms=1)) == []


class Page(HTMLParser):
    """Checks that every tag is closed, and that nothing is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.foreign += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (outcome(), "Held"),
        (outcome(checks=[Check("all is well", False, "no")], problems=["a call failed"]), "Broken"),
        (outcome(incidents=[], acknowledged=[], completions_ms=[], leaders=[]), "Held"),
        (outcome(incidents=[incident(acknowledged_ms=None, assigned_ms=None, problem="no service")]), "Held"),
    ],
    ids=["held", "broken", "nothing happened", "no service"],
)
def test_the_page_stands_alone(found: DrillOutcome, verdict: str, tmp_path: Path) -> None:
    data, html = write_report(found, tmp_path)
    page = Page()
    page.feed(html.read_text())
    assert page.open == []
    assert page.foreign == []
    assert verdict in page.words
    assert "A <test>." in page.words
    assert json.loads(data.read_text())["held"] is found.held


def test_the_terminal_tells_the_same(tmp_path: Path) -> None:
    console = Console(file=(tmp_path / "out").open("w"), width=120)
    terminal.show(console, outcome(problems=["a call failed"]))
    console.file.close()
    shown = (tmp_path / "out").read_text()
    assert "held    all is well: it is" in shown
    assert "a call failed" in shown
    assert "2 agents" in terminal.line(incident(nodes=(), agents=("x", "y")))
