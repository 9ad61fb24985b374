"""A cluster of nodes and agents as processes on this machine: for trying things, the demo, drills and tests.

Everything lies in one folder: `cluster.json` (who runs where), `data/ID` (a node's state), `logs/ID.log`,
`run/ID.json` (the identity of a process), `certs` (an authority and what it issued) and
`effects/ID.jsonl` (what an agent did), both where asked for. The processes outlive the program that
started them; `LocalCluster.attach` takes them up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from agent_sdk import Client
from agent_sdk.errors import DeadlineExceeded, Unavailable
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.authority import Authority, node_files
from coordinator.cli.ports import free_ports
from coordinator.cli.processes import Identity, Process, end, last_lines
from coordinator.config import settings as known_settings
from coordinator.errors import CoordinatorError, NotFound, StartFailed, WrongState

_MODULE: Final = "coordinator"
_FOLDERS: Final = ("data", "logs", "run", "certs", "effects")
_HOST: Final = "127.0.0.1"
_POLL_S: Final = 0.05
_CALL_TIMEOUT_S: Final = 2.0
_LOG_LINES: Final = 20
_KILL_WAIT_S: Final = 10.0

START_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 5.0


class NodeEntry(msgspec.Struct):
    """A node in `cluster.json`; addresses are "host:port"."""

    id: str
    pid: int
    grpc: str
    raft: str
    data_dir: str


class AgentEntry(msgspec.Struct):
    """An agent in `cluster.json`."""

    id: str
    pid: int


class ClusterFile(msgspec.Struct):
    """`cluster.json`."""

    nodes: list[NodeEntry]
    agents: list[AgentEntry] = []
    tls: bool = False


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular about how one node runs: `settings` before those of all nodes, and `prefix` and
    `environment` as `Process.start` takes them."""

    settings: Mapping[str, str] = {}
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = {}


Arrange = Callable[[Mapping[str, NodeEntry]], Mapping[str, Place]]
"""Given the nodes by id, once their addresses are known and before any runs, returns their places."""


class LocalCluster:
    """Starts, kills, restarts and stops the processes of one folder; a context manager that stops them."""

    def __init__(self, directory: Path, layout: ClusterFile, settings: Mapping[str, str]) -> None:
        """Use `start` or `attach`."""
        self.directory = directory
        self._layout = layout
        self._settings = dict(settings)
        self._places: Mapping[str, Place] = {}
        self._processes: dict[str, Process] = {}
        self._killed: set[str] = set()

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        nodes: int = 3,
        agents: Sequence[AgentSpec] = (),
        effects: bool = False,
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
        hosts: Sequence[str] = (),
        arrange: Arrange | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """Start nodes and agents; return when a leader and all nodes serve and every agent is registered.

        State left in the folder by an earlier cluster of as many nodes is taken up again. `settings` are
        those of `coordinator.config`, by key, for every node; with `effects` agents record what they do, with
        `tls` nodes know each other by certificates that are made in the folder.
        `hosts` are the addresses of the nodes, where they are not all on the loopback interface; `arrange`
        says what is particular about single ones.

        Raises:
            WrongState: a cluster runs in this folder, or its state is that of a cluster of another size.
            StartFailed: a process ended, or there was no leader within `timeout_s`; the message holds the end
                of the log of the process in question. What was started has been stopped.
        """
        directory = directory.resolve()
        with _locked(directory):
            cluster = cls(directory, _layout(directory, nodes, tls, hosts), settings or {})
            try:
                cluster._places = arrange(cluster.nodes) if arrange is not None else {}
                cluster._launch(agents, effects)
                cluster.wait_until_ready(timeout_s)
            except BaseException:
                cluster._end(STOP_GRACE_S)
                raise
        return cluster

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """The cluster that an earlier program started in this folder. Raises NotFound if there is none."""
        directory = directory.resolve()
        layout = _read_layout(directory)
        if layout is None:
            raise NotFound(f"there is no cluster in {directory}: it has no cluster.json", path=directory)
        cluster = cls(directory, layout, {})
        for process_id in cluster._ids:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                identity = msgspec.json.decode(cluster._run_file(process_id).read_bytes(), type=Identity)
                cluster._processes[process_id] = Process(identity)
        return cluster

    @staticmethod
    def discard(directory: Path) -> None:
        """Remove what an earlier cluster left in the folder; what is not a cluster's stays. Raises
        WrongState while one runs in it."""
        if _read_layout(directory) is None:
            return
        _refuse_running(directory)
        for name in _FOLDERS:
            shutil.rmtree(directory / name, ignore_errors=True)
        (directory / "cluster.json").unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what there is ---

    @property
    def nodes(self) -> dict[str, NodeEntry]:
        """The nodes by id."""
        return {node.id: node for node in self._layout.nodes}

    @property
    def agents(self) -> dict[str, AgentEntry]:
        """The agents by id."""
        return {agent.id: agent for agent in self._layout.agents}

    @property
    def endpoints(self) -> list[str]:
        """The gRPC addresses of all nodes."""
        return [node.grpc for node in self._layout.nodes]

    def pid(self, process_id: str) -> int:
        """The process id of this node or agent. Raises NotFound."""
        return self._process(process_id).identity.pid

    def alive(self, process_id: str) -> bool:
        """Whether this node or agent runs."""
        return process_id in self._processes and self._processes[process_id].alive

    def exit_code(self, process_id: str) -> int | None:
        """With which code it has ended; None while it runs. Raises NotFound."""
        return self._process(process_id).exit_code

    def log(self, process_id: str) -> Path:
        """The log file of this node or agent."""
        return self.directory / "logs" / f"{process_id}.log"

    def effects(self, agent_id: str) -> Path:
        """The file in which this agent records what it does, where that was asked for."""
        return self.directory / "effects" / f"{agent_id}.jsonl"

    def leader(self, timeout_s: float = _CALL_TIMEOUT_S) -> str:
        """The id of the leader. Raises DeadlineExceeded if none serves within `timeout_s`."""
        with Client(self.endpoints, timeout_s=timeout_s) as client:
            return client.cluster_status().leader

    # --- faults and repairs ---

    def signal(self, process_id: str, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP and SIGCONT. Raises NotFound."""
        self._process(process_id).signal(number)

    def kill_node(self, node_id: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self._kill(node_id)

    def stop_node(self, node_id: str, grace_s: float = STOP_GRACE_S) -> int | None:
        """SIGTERM, and wait until it is gone; returns its exit code. Raises CoordinatorError if it is still
        there after `grace_s`."""
        process = self._process(node_id)
        self._killed.add(node_id)
        process.signal(signal.SIGTERM)
        if not process.wait(grace_s):
            raise CoordinatorError(f"{node_id} is still there {grace_s} s after SIGTERM", id=node_id)
        return process.exit_code

    def kill_agent(self, agent_id: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self._kill(agent_id)

    def add_node(self, node_id: str) -> NodeEntry:
        """Start one more node, which waits until it is made a member; returns at once."""
        grpc, raft = free_ports(_HOST, 2)
        data_dir = str(self.directory / "data" / node_id)
        node = NodeEntry(node_id, 0, f"{_HOST}:{grpc}", f"{_HOST}:{raft}", data_dir)
        self._layout.nodes.append(node)
        self._start(node_id, [*self._node_arguments(node), "--set", "join=true"])
        return node

    def forget_node(self, node_id: str) -> None:
        """A node was removed from the cluster and has ended, or will never run again."""
        self._kill(node_id)
        self._layout.nodes.remove(self.nodes[node_id])
        _write(self.directory / "cluster.json", self._layout)

    def restart_node(self, node_id: str) -> None:
        """Start a node that has ended, with its state and addresses; returns at once. Raises WrongState."""
        self._restart(node_id)

    def restart_agent(self, agent_id: str) -> None:
        """Start an agent that has ended; returns at once. Raises WrongState."""
        self._restart(agent_id)

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until a leader serves, and every process does its part but those that were killed.

        Raises:
            StartFailed: one of them ended by itself, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        missing = "no node answered"
        with Client(self.endpoints, timeout_s=_CALL_TIMEOUT_S) as client:
            while missing:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise StartFailed(
                        f"the cluster in {self.directory} is not ready after {timeout_s} s: {missing}; "
                        + self._end_of_log(self._layout.nodes[0].id),
                        directory=self.directory,
                    )
                missing = self._missing(client)
                if missing:
                    time.sleep(_POLL_S)

    def stop(self, *, grace_s: float = STOP_GRACE_S, keep_data: bool = True) -> list[str]:
        """Stop everything, agents first; returns the ids of those that had to be killed after `grace_s`."""
        with _locked(self.directory):
            killed = self._end(grace_s)
            if not keep_data:
                for name in ("data", "run", "certs"):
                    shutil.rmtree(self.directory / name, ignore_errors=True)
                (self.directory / "cluster.json").unlink(missing_ok=True)
        return killed

    # --- inside ---

    @property
    def _ids(self) -> list[str]:
        return [*self.nodes, *self.agents]

    def _launch(self, agents: Sequence[AgentSpec], effects: bool) -> None:
        for folder in ("data", "logs", "run", *(["effects"] if effects else [])):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        for node in self._layout.nodes:
            self._start(node.id, self._node_arguments(node))
        for spec in agents:
            self._layout.agents.append(AgentEntry(id=spec.id, pid=0))
            arguments = ["agent", "--endpoints", ",".join(self.endpoints), *spec.flags()]
            recording = ["--effects", str(self.effects(spec.id))] if effects else []
            self._start(spec.id, [*arguments, *recording])

    def _node_arguments(self, node: NodeEntry) -> list[str]:
        """Flags throughout: what this program's environment says of some node must not count for these."""
        members = ",".join(f"{one.id}={one.raft}/{one.grpc}" for one in self._layout.nodes)
        settings = {
            "node_id": node.id,
            "cluster_nodes": members,
            "data_dir": node.data_dir,
            "listen_host": node.grpc.rpartition(":")[0],
            "grpc_port": node.grpc.rpartition(":")[2],
            "raft_port": node.raft.rpartition(":")[2],
            **self._tls_settings(node.id),
            **self._settings,
            **self._place(node.id).settings,
        }
        return ["serve", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]

    def _tls_settings(self, node_id: str) -> dict[str, str]:
        if not self._layout.tls:
            return {"tls.mode": "off"}
        folder = self.directory / "certs"
        files = node_files(folder, node_id)
        if not files.cert.exists():
            cluster_id = self._settings.get("cluster_id", str(known_settings()["cluster_id"].default))
            files = Authority.found(folder, cluster_id).issue(node_id, [_HOST])
        return {"tls.ca": str(files.ca), "tls.cert": str(files.cert), "tls.key": str(files.key)}

    def _start(self, process_id: str, arguments: Sequence[str]) -> None:
        place = self._place(process_id)
        process = Process.start(
            _MODULE, arguments, self.log(process_id), prefix=place.prefix, environment=place.environment
        )
        self._processes[process_id] = process
        self._killed.discard(process_id)
        entry = self.nodes.get(process_id) or self.agents[process_id]
        entry.pid = process.identity.pid
        _write(self._run_file(process_id), process.identity)
        _write(self.directory / "cluster.json", self._layout)

    def _place(self, process_id: str) -> Place:
        return self._places.get(process_id, Place())

    def _process(self, process_id: str) -> Process:
        if process_id not in self._processes:
            known = ", ".join(self._ids)
            raise NotFound(
                f"there is no process {process_id!r} in {self.directory}; there are {known}", id=process_id
            )
        return self._processes[process_id]

    def _kill(self, process_id: str) -> None:
        process = self._process(process_id)
        self._killed.add(process_id)
        process.signal(signal.SIGKILL)
        if not process.wait(_KILL_WAIT_S):
            raise CoordinatorError(
                f"{process_id} is still there {_KILL_WAIT_S} s after SIGKILL", id=process_id
            )

    def _restart(self, process_id: str) -> None:
        process = self._process(process_id)
        if process.alive:
            raise WrongState(f"{process_id} runs already, with pid {process.identity.pid}", id=process_id)
        self._start(process_id, process.module_arguments)

    def _check_alive(self) -> None:
        for process_id, process in self._processes.items():
            if not process.alive and process_id not in self._killed:
                raise StartFailed(
                    f"{process_id} ended with exit code {process.exit_code}; {self._end_of_log(process_id)}",
                    id=process_id,
                )

    def _missing(self, client: Client) -> str:
        """What the cluster still lacks, in words; empty once it is ready."""
        try:
            client.cluster_status()
            for node in self._layout.nodes:
                if node.id not in self._killed:
                    client.node_status(node.grpc)
            serving = {
                agent.agent_id for agent in client.agents() if agent.state in ("IDLE", "RUNNING", "DRAINING")
            }
        except (Unavailable, DeadlineExceeded) as error:
            return error.message
        missing = [agent_id for agent_id in self.agents if agent_id not in serving | self._killed]
        return f"not registered: {', '.join(missing)}" if missing else ""

    def _end(self, grace_s: float) -> list[str]:
        killed: list[str] = []
        for ids in (self.agents, self.nodes):
            processes = {one: self._processes[one] for one in ids if one in self._processes}
            stubborn = end(processes.values(), grace_s)
            killed += [one for one, process in processes.items() if process in stubborn]
        return killed

    def _end_of_log(self, process_id: str) -> str:
        log = self.log(process_id)
        return f"the end of {log}:\n{last_lines(log, _LOG_LINES)}"

    def _run_file(self, process_id: str) -> Path:
        return self.directory / "run" / f"{process_id}.json"


def _layout(directory: Path, nodes: int, tls: bool, hosts: Sequence[str]) -> ClusterFile:
    """Where the nodes will be; where they were, if there were some, as their state knows the addresses."""
    former = _read_layout(directory)
    if former is None:
        # Free on the loopback interface is as good as free on an address that exists for these nodes alone.
        ports = free_ports(_HOST, 2 * nodes)
        ids = [f"n{number}" for number in range(1, nodes + 1)]
        hosts = hosts or [_HOST] * nodes
        return ClusterFile(
            [
                NodeEntry(node, 0, f"{host}:{grpc}", f"{host}:{raft}", str(directory / "data" / node))
                for node, host, grpc, raft in zip(ids, hosts, ports[::2], ports[1::2], strict=True)
            ],
            tls=tls,
        )
    _refuse_running(directory)
    if len(former.nodes) != nodes:
        raise WrongState(
            f"{directory} holds the state of a cluster of {len(former.nodes)} nodes, not {nodes}; ask for as "
            "many, choose another folder, or discard it with `coordinator down --discard-data`",
            directory=directory,
        )
    return ClusterFile(former.nodes, tls=tls)


def _refuse_running(directory: Path) -> None:
    running = LocalCluster.attach(directory)
    alive = [process_id for process_id in (*running.nodes, *running.agents) if running.alive(process_id)]
    if alive:
        raise WrongState(
            f"a cluster runs in {directory} already ({', '.join(alive)}); stop it with "
            f"`coordinator down --dir {directory}`, or choose another folder",
            directory=directory,
        )


def _read_layout(directory: Path) -> ClusterFile | None:
    path = directory / "cluster.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClusterFile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StartFailed(
            f"cannot read {path}: {error}; remove it, or choose another folder", path=path
        ) from error


def _write(path: Path, value: msgspec.Struct) -> None:
    """Whole or not at all: others read these files while they change."""
    scratch = path.with_suffix(".new")
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
    scratch.replace(path)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One program at a time starts or stops the processes of a folder."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise StartFailed(
            f"cannot use the folder {directory}: {error.strerror}", directory=directory
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WrongState(
                f"another program is starting or stopping the cluster in {directory}", directory=directory
            ) from error
        yield
