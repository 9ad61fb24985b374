"""What measuring programs have around them: their folder goes, their end ends what was started, and where a
report goes is seen to before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import click
import psutil
import pytest
from click.testing import CliRunner

from bench.hollow import Hollow
from bench.machine import others
from bench.options import Finite, json_option
from bench.results import begin, write
from bench.running import _INSISTENT, workplace

PROGRAM = """
import sys, threading
from bench.running import workplace
with workplace() as folder:
    try:
        print(folder, flush=True)
        threading.Event().wait()
    finally:
        print("ending", flush=True)
        sys.stdin.readline()
        print("ended", flush=True)
"""


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_asks_it_to_end_twice_waits_for_what_it_ends(asked: signal.Signals) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        folder = Path(line(program.stdout))
        assert folder.is_dir()
        program.send_signal(asked)
        assert line(program.stdout) == "ending"
        for again in (asked, signal.SIGINT, signal.SIGTERM)[: _INSISTENT - 2]:
            program.send_signal(again)
            assert line(program.stderr) == "ending what was started ..."
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
        assert line(program.stdout) == "ended"
        assert program.wait() != 0
    assert not folder.exists()


def test_whoever_insists_does_not_have_to_wait() -> None:
    with workplace():
        told = []
        for _ in range(_INSISTENT):
            try:
                signal.raise_signal(signal.SIGTERM)
                told.append("wait")
            except KeyboardInterrupt:
                told.append("end")
    assert told == ["end", *["wait"] * (_INSISTENT - 2), "end"]


def test_what_was_started_and_is_known_to_nobody_is_ended() -> None:
    with workplace():
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert not psutil.pid_exists(child.pid)
    child.wait()


def test_what_ran_before_goes_on() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        with workplace():
            pass
        assert child.poll() is None
        child.kill()


def test_signals_mean_what_they_did_before_in_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with workplace():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_that_is_to_be_kept_stays(tmp_path: Path) -> None:
    with workplace(tmp_path) as folder:
        (folder / "log").touch()
    assert (tmp_path / "log").exists()


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("nobody came"),
        ExceptionGroup("a group", [RuntimeError("nobody came")]),
        ExceptionGroup(
            "a group", [ExceptionGroup("of groups", [TimeoutError("nobody came"), RuntimeError()])]
        ),
    ],
)
def test_what_is_foreseen_to_fail_is_said_in_a_line(error: Exception) -> None:
    with pytest.raises(click.ClickException, match=r"^nobody came$"), workplace():
        raise error


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ExceptionGroup("both", [RuntimeError(), ZeroDivisionError()])]
)
def test_a_defect_is_told_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)), workplace():
        raise error


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "many"])
def test_what_is_no_number_is_none_in_a_range(value: str) -> None:
    with pytest.raises(click.BadParameter):
        Finite(0).convert(value, None, None)


@click.command()
@json_option("nothing")
def program(file: Path) -> None:
    """Tell where a report would go."""
    click.echo(file)


def test_a_report_that_could_not_be_written_is_refused_before_all_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path, tmp_path / "file" / "report.json"):
        result = CliRunner().invoke(program, ["--json", str(wrong)])
        assert result.exit_code == 2, result.output
        assert "'--json'" in result.output


def test_the_folder_of_a_report_is_made_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "new" / "report.json"
    assert CliRunner().invoke(program, ["--json", str(file)]).output == f"{file}\n"
    assert list(file.parent.iterdir()) == []


def test_a_report_that_was_there_stays_until_there_is_another(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text("the last one")
    CliRunner().invoke(program, ["--json", str(file)])
    assert file.read_text() == "the last one"


def test_nothing_measured_is_no_report(tmp_path: Path) -> None:
    write(begin(), tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_what_runs_already_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Hollow(tmp_path) as hollow:
        pid = hollow._process.identity.pid
        assert pid in others()
        assert begin().machine["others"]
        assert str(pid) in capsys.readouterr().err
    assert pid not in others()
