"""`python -m chaos`: what it lists, and how it says that something cannot be done, before anything starts.
Answers I4."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chaos import __main__ as program
from chaos.__main__ import main, seconds
from chaos.drills import catalogue
from chaos.harness.namespaces import Namespaces
from chaos.plan import Plan
from coordinator.errors import WrongState

IMPOSSIBLE = 2


def chaos(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "300"})


def test_all_drills_are_listed_with_what_they_do() -> None:
    listed = chaos("list")
    assert listed.exit_code == 0
    for name in catalogue.names():
        assert f"{name} " in listed.output
        assert catalogue.find(name).summary in listed.output


def test_what_needs_root_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    (line,) = (line for line in chaos("list").output.splitlines() if line.startswith("lossy-packets"))
    assert "(not here: network namespaces need root)" in line
    refused = chaos("run", "lossy-packets")
    assert (refused.exit_code, "is left out: network namespaces need root" in refused.output) == (
        IMPOSSIBLE,
        True,
    )


def test_links_that_are_delayed_need_netem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = tmp_path / "slow.yaml"
    fault = "{fault: slow, delay_ms: 5}"
    plan.write_text(f"{{summary: Slow., cluster: {{network: namespaces}}, tracks: [{{faults: [{fault}]}}]}}")
    monkeypatch.setattr(Namespaces, "missing", lambda: "")
    monkeypatch.setattr(Namespaces, "missing_for_delay", lambda: "the kernel has no netem")
    refused = chaos("run", str(plan))
    assert (refused.exit_code, "slow is left out: the kernel has no netem" in refused.output) == (
        IMPOSSIBLE,
        True,
    )


def test_a_busy_machine_is_not_judged_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = list[Plan]()

    def drill(plan: Plan, *_: object, **__: object) -> None:
        judged.append(plan)
        raise WrongState("enough")

    monkeypatch.setattr(program, "run", drill)
    chaos("run", "stalls")
    chaos("run", "stalls", "--untimed")
    timed, untimed = judged
    assert (timed.elections, untimed.elections) == (0, None)
    assert timed.limits
    assert not untimed.limits


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "iptables" in chaos("run", "lossy-packets").output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "leader-kil"), "there is no drill 'leader-kil'; there are "),
        (("run", "missing.yaml"), "cannot read the plan missing.yaml"),
        (
            ("run", "leader-kill", "--endpoints", "h:1"),
            "control of the nodes' processes, which only a cluster of its",
        ),
        (("run", "leader-kill", "--duration", "soon"), "'soon' is not a duration such as 90, 90s, 15m or 2h"),
        (("run", "leader-kill", "--rounds", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: tuple[str, ...], told: str) -> None:
    refused = chaos(*arguments)
    assert (refused.exit_code, told in " ".join(refused.output.split())) == (IMPOSSIBLE, True), refused.output


def test_a_cluster_that_does_not_start_is_told_from_a_broken_promise(tmp_path: Path) -> None:
    (tmp_path / "leader-kill").mkdir()
    (tmp_path / "leader-kill" / "data").write_text("in the way")
    refused = chaos("run", "leader-kill", "--out", str(tmp_path))
    assert refused.exit_code == IMPOSSIBLE
    assert "leader-kill could not be carried out" in refused.output


@pytest.mark.parametrize(("text", "value"), [("90", 90.0), ("1.5s", 1.5), ("15m", 900.0), ("2h", 7_200.0)])
def test_durations_are_read(text: str, value: float) -> None:
    assert seconds(text) == value
