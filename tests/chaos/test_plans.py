"""Plans of drills: those that ship can be read and used, and one that is wrong says what is wrong, where.
Answers I4."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.drills import catalogue
from chaos.faults import Need
from chaos.faults.links import Isolate
from chaos.faults.processes import Kill
from chaos.plan import parse_plan, read_plan
from coordinator.errors import ConfigError, NotFound

PLAN = """
summary: One of each.
cluster: {nodes: 5, settings: {raft.heartbeat_s: 0.1}}
load: {submissions_per_s: 5}
tracks:
  - order: random
    faults: [kill, {fault: isolate, target: n2, direction: in, hold_s: [1, 2]}]
schedule:
  - {at_s: 3, strike: {fault: kill, target: follower}}
limits:
  - {measure: assigned, median_ms: 100}
duration_s: 10
"""


def test_a_plan_names_its_faults_and_their_needs() -> None:
    plan = parse_plan(PLAN, "one", "one.yaml")
    assert plan.name == "one"
    assert plan.faults == [
        Kill(),
        Isolate(target="n2", direction="in", hold_s=(1, 2)),
        Kill(target="follower"),
    ]
    assert plan.needs == {Need.PROCESSES, Need.LINKS}
    slow = parse_plan(
        PLAN.replace("kill, {fault: isolate, target: n2, direction: in", "{fault: slow, delay_ms: 5"), "", ""
    )
    assert slow.needs == {Need.PROCESSES, Need.LINKS, Need.DELAY}


@pytest.mark.parametrize("name", catalogue.names())
def test_every_plan_that_ships_can_be_used(name: str) -> None:
    plan = catalogue.find(name)
    assert plan.name == name
    assert plan.summary.endswith(".")
    assert plan.faults


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("isolate,", "isolatte,", r"'isolatte' at tracks\[0\]\.faults\[1\]; the faults .* isolate, "),
        ("target: n2", "tarrget: n2", r"unknown field `tarrget`, at tracks\[0\]\.faults\[1\]"),
        ("direction: in", "direction: up", r"'up', at tracks\[0\]\.faults\[1\]\.direction"),
        ("hold_s: [1, 2]", "hold_s: [2, 1]", r"hold_s from 2 to 1 at tracks\[0\]\.faults\[1\]"),
        ("hold_s: [1, 2]", "hold_s: [1, -2]", r">= 0\.0, at tracks\[0\]\.faults\[1\]\.hold_s"),
        ("order: random", "order: rnd", r"'rnd', at tracks\[0\]\.order"),
        ("nodes: 5", "nodes: 0", r">= 1, at cluster\.nodes"),
        ("raft.heartbeat_s", "raft.heart_s", r"sets 'raft\.heart_s' at cluster\.settings"),
        ("duration_s: 10", "duration_s: 2", r"strikes at 3 s and ends at 2 s"),
        ("duration_s: 10", "elections: -1", r">= 0, at elections"),
        ("measure: assigned", "measure: begunn", r"'begunn', at limits\[0\]\.measure"),
        ("tracks:", "trucks:", r"unknown field `trucks`, at the top"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, told: str) -> None:
    assert old in PLAN
    with pytest.raises(ConfigError, match=told):
        parse_plan(PLAN.replace(old, new), "one", "one.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not YAML"),
        ("- kill", "holds a list"),
        ("summary: Nothing.", "does nothing"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_plan(text, "one", "one.yaml")


def test_a_file_takes_its_name_from_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN)
    assert catalogue.find(str(file)) == read_plan(file)
    assert read_plan(file).name == "mine"


def test_a_drill_that_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="leader-kill"):
        catalogue.find("leader-kil")
    with pytest.raises(ConfigError, match=r"cannot read the plan missing\.yaml"):
        catalogue.find("missing.yaml")
