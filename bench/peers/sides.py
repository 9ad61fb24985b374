"""The two sides of a comparison: our cluster, and the program of a peer."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import psutil

from bench import workloads
from bench.failover import agent_lost
from bench.fleet import Crew
from bench.peers.program import FOLDER
from bench.peers.ratios import Figures
from bench.stage import Stage
from coordinator.cli.processes import last_lines

_ROOT: Final = Path(__file__).parents[2]
_MARK: Final = "QUORUMFLOW_PEER"
"""In its environment and its descendants': tells what belongs to a program and has left its session."""
_ANSWER_S: Final = 900.0
_END_S: Final = 30.0
_LOG_LINES: Final = 3


class SideFailed(Exception):
    """A side could not do what it was asked to; the message says why."""


class Side(Protocol):
    """Who runs workloads."""

    def run(self, workload: str, size: int) -> Figures:
        """The figures of one run. Raises SideFailed."""


class Ours:
    """Three nodes as shipped, and two agents of four slots; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._stage = Stage(folder, Crew())

    def __enter__(self) -> Self:
        self._stage.__enter__()
        try:
            workloads.warm_up(self._stage.client)
        except BaseException:
            self._stage.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stage.close()

    def run(self, workload: str, size: int) -> Figures:
        client = self._stage.client
        match workload:
            case "W1":
                return {workload: workloads.independent(client, size)}
            case "W2":
                return {workload: workloads.layered(client, size)}
            case "W3":
                return {workload: workloads.chain(client, size)}
            case "W4":
                latency = workloads.singles(client, size)
                return {workload: latency.p50, f"{workload}_p99": latency.p99}
            case _:
                return {workload: self._agent_lost(size)}

    def _agent_lost(self, patience_s: int) -> float:
        """Our tasks run in their agent: there is no other process of theirs to be killed."""
        assert self._stage.fleet is not None
        try:
            return agent_lost(self._stage.client, self._stage.fleet, patience_s)
        except TimeoutError as error:
            raise SideFailed(str(error)) from error


class Program:
    """A peer's program under its own interpreter; a context manager that ends it and all that it started.
    `versions` are those of the peer."""

    versions: dict[str, str]

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        self._name = name
        self._python = python
        self._folder = folder
        self._token = uuid.uuid4().hex

    def __enter__(self) -> Self:
        """Raises SideFailed."""
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, workload: str, size: int) -> Figures:
        if workload.startswith("W6"):
            # Not every client survives the loss of its servers: each of these runs has one of its own.
            self._end()
            self._begin()
        assert self._process.stdin is not None
        order = json.dumps({"workload": workload, "size": size}) + "\n"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(order.encode())
        figures: Figures = self._answer("figures")
        return figures

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "PATH": f"{self._python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(_ROOT),
            "DO_NOT_TRACK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            FOLDER: str(self._folder),
            _MARK: self._token,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._python), "-u", "-m", f"bench.peers.on_{self._name}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=_ROOT,
                env=environment,
                start_new_session=True,
            )
        try:
            self.versions = self._answer("versions")
        except BaseException:
            self._end()
            raise

    @property
    def _log(self) -> Path:
        return self._folder / f"{self._name}.log"

    def _answer(self, fact: str) -> Any:
        assert self._process.stdout is not None
        # An answer is one line, and unbuffered: there is nothing of it but in the pipe.
        ready, _, _ = select.select([self._process.stdout], [], [], _ANSWER_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            what = "its program has ended" if ready else f"its program has not answered in {_ANSWER_S} s"
            raise SideFailed(f"{what}; the end of its log:\n{last_lines(self._log, _LOG_LINES)}")
        answer = json.loads(line)
        if "error" in answer:
            raise SideFailed(answer["error"])
        return answer[fact]

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == self._process.pid or process.environ().get(_MARK) == self._token:
                    process.kill()
        self._process.wait()
        self._process.stdout.close()
