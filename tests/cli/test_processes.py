"""Detached processes: known again by pid, start time and command line together, and ended without touching
others. What `coordinator down` relies on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from coordinator.cli.processes import Identity, Process, end, last_lines

WAIT_S = 30.0
POLITE = "import os, signal\nopen(os.environ['READY'], 'w').close()\nsignal.pause()\n"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + POLITE


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipe that a started process opens once it has set itself up."""
    (tmp_path / "polite.py").write_text(POLITE)
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    pipe = tmp_path / "ready"
    os.mkfifo(pipe)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("READY", str(pipe))
    return pipe


@pytest.fixture
def polite(ready: Path, tmp_path: Path) -> Iterator[Process]:
    """A process that SIGTERM ends."""
    process = Process.start("polite", ["some", "argument"], tmp_path / "polite.log")
    ready.read_bytes()
    yield process
    process.signal(signal.SIGKILL)
    assert process.wait(WAIT_S)


def test_a_process_is_known_again_by_its_identity(polite: Process) -> None:
    again = Process(polite.identity)
    assert again.alive
    assert end([again], WAIT_S) == []
    assert not again.alive
    # It has lost its command line already, and may be a moment from having an exit code.
    assert polite.wait(WAIT_S)
    assert polite.exit_code == -signal.SIGTERM


@pytest.mark.parametrize(
    "change", [{"started": 1.0}, {"command": ["python", "-m", "other"]}, {"pid": 2**22 - 1}]
)
def test_another_process_under_the_same_pid_is_left_alone(polite: Process, change: dict[str, object]) -> None:
    former = Process(msgspec.convert(msgspec.to_builtins(polite.identity) | change, Identity))
    assert not former.alive
    former.signal(signal.SIGKILL)
    assert end([former], WAIT_S) == []
    assert polite.alive


def test_what_ignores_sigterm_is_killed(ready: Path, tmp_path: Path) -> None:
    process = Process.start("stubborn", [], tmp_path / "stubborn.log")
    ready.read_bytes()
    assert end([process], grace_s=0.1) == [process]
    assert process.wait(WAIT_S)
    assert process.exit_code == -signal.SIGKILL


def test_a_process_outlives_no_wait_it_was_not_asked_to(polite: Process) -> None:
    assert not polite.wait(0.0)
    assert polite.alive
    assert os.getsid(polite.identity.pid) == polite.identity.pid


def test_a_process_that_cannot_start_says_so_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process.start("no_such_module_anywhere", [], log)
    assert process.wait(WAIT_S)
    assert process.exit_code == 1
    assert "no_such_module_anywhere" in last_lines(log, 20)


def test_the_end_of_a_log_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(50_000)) + "x" * 2_000)
    lines = last_lines(log, 3).splitlines()
    assert lines[:2] == ["line 49998", "line 49999"]
    assert len(lines[2]) == 500
    assert last_lines(tmp_path / "none", 3) == ""
