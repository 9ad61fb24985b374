"""What the peers' programs share: orders in, figures out, each a line of JSON; the clock; who is killed.

An order is `{"workload": "W2", "size": 100}`, its answer `{"figures": {"W2": 1234.5}}` or `{"error": "..."}`;
the first line says `{"versions": {...}}`. A figure of null did not come about in time. Imports nothing but
the standard library: each program runs in its peer's environment.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from bench import graphs

FOLDER: Final = "QUORUMFLOW_PEER_FOLDER"
"""The environment names the folder for whatever a system writes."""
HOST: Final = "127.0.0.1"
SLOTS: Final = 8
WARM_UP_TASKS: Final = 1_000
WARM_UPS: Final = 3

_HELD: Final = 4
_HELD_S: Final = 60.0
_START_S: Final = 60.0
_POLL_S: Final = 0.002


class System(Protocol):
    """A peer with its coordinator and its agents as children of this process. `agents` is among how many the
    slots are shared where nobody is killed."""

    agents: int

    def versions(self) -> dict[str, str]:
        """Of what matters."""

    def start(self, agents: int) -> None:
        """Return when all slots can be given work."""

    def stop(self) -> None:
        """End everything, whatever state it is in."""

    def run(self, graph: graphs.Graph) -> None:
        """Submit no-op tasks, and wait until the results of all are known."""

    def single(self) -> None:
        """The same with one task."""

    def hold(self, marks: str, task: str, seconds: float) -> None:
        """Submit a task that calls `mark(marks, task)` and lasts so long; it may be run again."""

    def victims(self, workload: str, pid: int) -> list[int]:
        """The processes whose death loses what the process `pid` runs: in W6_process as few as can be,
        in W6_agent all that would die with its machine."""


def serve(system: System) -> None:
    """Carry out orders until there are no more."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**facts: object) -> None:
        answers.write(json.dumps(facts) + "\n")

    answer(versions={"python": sys.version.split()[0], **system.versions()})
    stage = _Stage(system)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            try:
                figures = _WORKLOADS[order["workload"]](stage, order["workload"], order["size"])
                answer(figures=figures)
            except Exception as error:
                stage.clear()
                answer(error=f"{type(error).__name__}: {error}")
    finally:
        stage.clear()


class _Stage:
    """Starts the system as a run needs it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._agents = 0

    def calm(self) -> System:
        """As it is measured while nobody is killed, and warm."""
        if self._agents == 0:
            self._start(self._system.agents)
            for _ in range(WARM_UPS):
                self._system.run(graphs.independent(WARM_UP_TASKS))
        return self._system

    def fresh(self, agents: int) -> System:
        """With so many agents, none of which has seen anything."""
        self.clear()
        self._start(agents)
        return self._system

    def clear(self) -> None:
        """Nothing runs any longer."""
        if self._agents:
            self._agents = 0
            self._system.stop()

    def _start(self, agents: int) -> None:
        self._agents = agents
        self._system.start(agents)


def _throughput(stage: _Stage, workload: str, size: int) -> dict[str, float]:
    graph = graphs.independent(size) if workload == "W1" else graphs.layered(size)
    return {workload: len(graph) / _seconds(stage, graph)}


def _chain(stage: _Stage, workload: str, size: int) -> dict[str, float]:
    return {workload: _seconds(stage, graphs.chain(size)) / size * 1e3}


def _seconds(stage: _Stage, graph: graphs.Graph) -> float:
    system = stage.calm()
    began = time.perf_counter()
    system.run(graph)
    return time.perf_counter() - began


def _singles(stage: _Stage, workload: str, size: int) -> dict[str, float]:
    system = stage.calm()
    times = []
    for _ in range(size):
        began = time.perf_counter()
        system.single()
        times.append((time.perf_counter() - began) * 1e3)
    return {workload: statistics.median(times), f"{workload}_p99": statistics.quantiles(times, n=100)[98]}


def _lost(stage: _Stage, workload: str, patience_s: int) -> dict[str, float | None]:
    """Milliseconds from SIGKILL until all that was lost with it has begun again; None if it has not."""
    system = stage.fresh(agents=2)
    marks = Path(os.environ[FOLDER]) / f"marks-{uuid.uuid4().hex}"
    for at in range(_HELD):
        system.hold(str(marks), f"t{at}", _HELD_S)
    started = wait_until(lambda: _read(marks, _HELD), _START_S, "the tasks have not begun")
    killed = system.victims(workload, started[0].pid)
    lost = {one.task for one in started if one.pid in killed}
    began = time.time()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    try:
        again = wait_until(lambda: _again(marks, lost, began), patience_s, "")
    except TimeoutError:
        return {workload: None}
    finally:
        stage.clear()
    return {workload: (max(again.values()) - began) * 1e3}


_WORKLOADS: Final[dict[str, Callable[[_Stage, str, int], Any]]] = {
    "W1": _throughput,
    "W2": _throughput,
    "W3": _chain,
    "W4": _singles,
    "W6_agent": _lost,
    "W6_process": _lost,
}


# --- tasks leave marks where they begin ---


class _Mark(NamedTuple):
    task: str
    pid: int
    at: float


def mark(marks: str, task: str) -> None:
    """A task begins in this process."""
    line = f"{task} {os.getpid()} {time.time():.6f}\n"
    descriptor = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def held(marks: str, task: str, seconds: float) -> str:
    """The task that is lost in W6."""
    mark(marks, task)
    time.sleep(seconds)
    return task


def _read(marks: Path, least: int = 0) -> list[_Mark]:
    lines = marks.read_text().splitlines() if marks.exists() else []
    found = [_Mark(task, int(pid), float(at)) for task, pid, at in map(str.split, lines)]
    return found if len(found) >= least else []


def _again(marks: Path, lost: set[str], since: float) -> dict[str, float]:
    """When these began again, once all have."""
    found: dict[str, float] = {}
    for one in _read(marks):
        if one.task in lost and one.at > since:
            found.setdefault(one.task, one.at)
    return found if len(found) == len(lost) else {}


# --- processes ---


def wait_until(ready: Callable[[], Any], patience_s: float, missing: str) -> Any:
    """What `ready` returns as soon as that is true. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{missing} after {patience_s} s")
        time.sleep(_POLL_S)
    return found


def launch(command: list[str]) -> subprocess.Popen[bytes]:
    """A process of the system; what it prints is logged with this program's."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, stderr=2)


def await_port(port: int) -> None:
    """Return when somebody listens. Raises TimeoutError."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    wait_until(listens, _START_S, f"nothing listens on port {port}")


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def parent(pid: int) -> int:
    """Who has started a process. Raises OSError if it is gone."""
    # The name, in brackets, may hold anything.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def family(pid: int) -> list[int]:
    """A process, and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(parent(int(entry.name)), []).append(int(entry.name))
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def kill(processes: list[subprocess.Popen[bytes]]) -> None:
    """These children and all that descend from them."""
    for pid in [one for process in processes if process.poll() is None for one in family(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for process in processes:
        process.wait()
    processes.clear()
