"""Detached processes that outlive their starter, and are known again by more than their pid.

A pid is reused; a process is therefore recorded with its start time and its command line, and nothing is
signalled that does not match both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

_START_TOLERANCE_S: Final = 2.0
"""The start time is derived from the wall clock, which may have been set meanwhile."""
_TAIL_BYTES: Final = 65_536
_LINE_CHARS: Final = 500


class Identity(msgspec.Struct, frozen=True):
    """A process: `started` is its start in Unix seconds, `command` its arguments from the interpreter on."""

    pid: int
    started: float
    command: list[str]


class Process:
    """A process that this program, or an earlier run of it, has started."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child

    @classmethod
    def start(
        cls,
        module: str,
        arguments: Sequence[str],
        log: Path,
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Run `python -m module` detached, in a session of its own; what it prints is added to `log`.
        `prefix` is a command that becomes the one behind it, such as `ip netns exec NAME`; `environment` adds
        to this program's."""
        command = [sys.executable, "-m", module, *arguments]
        with log.open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 - our own program
                [*prefix, *command],
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(Identity(child.pid, _start_time(child.pid), command), child)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            process = psutil.Process(self.identity.pid)
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and abs(process.create_time() - self.identity.started) < _START_TOLERANCE_S
                and process.cmdline() == self.identity.command
            )
        except psutil.NoSuchProcess:
            return False

    @property
    def module_arguments(self) -> list[str]:
        """What its module was given."""
        return self.identity.command[3:]

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs, or if another program started it."""
        return None if self._child is None else self._child.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self.identity.pid).send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; whether it has ended within that time."""
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True


def end(processes: Iterable[Process], grace_s: float) -> list[Process]:
    """SIGTERM, and SIGKILL after `grace_s` for all together; returns those that had to be killed."""
    running = [process for process in processes if process.alive]
    for process in running:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    stubborn = [process for process in running if not process.wait(max(0.0, deadline - time.monotonic()))]
    for process in stubborn:
        process.signal(signal.SIGKILL)
    for process in stubborn:
        process.wait(grace_s)
    return stubborn


def last_lines(log: Path, count: int) -> str:
    """The end of a log file, each line cut at `_LINE_CHARS`."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(line[:_LINE_CHARS] for line in lines[-count:])
    return ""


def _start_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        # It has ended already, which whoever waits for it will find out.
        return 0.0
