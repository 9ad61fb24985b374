"""The client for code without an event loop: every call runs `AsyncClient`'s on a private loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from agent_sdk._async_client import AsyncClient
from agent_sdk._dag import Dag
from agent_sdk._kv import Kv
from agent_sdk._leader import CALL_TIMEOUT_S
from agent_sdk._loop_thread import LoopThread
from agent_sdk._members import Members
from agent_sdk._namespaces import Namespaces
from agent_sdk._reservations import Reservations
from agent_sdk._submit import SubmitSettings
from agent_sdk.types import (
    AgentStatus,
    ClusterStatus,
    DagStatus,
    Decision,
    Event,
    Explanation,
    Forecast,
    GroupStatus,
    NodeStatus,
    TaskResult,
    TaskStatus,
)
from quorumflow_proto.v1 import common_pb2


class Client:
    """Submits DAGs and follows them; may be used from several threads.

    Arguments, behaviour and errors of each method are those of the same method of `AsyncClient`. Iterators
    fetch page by page as they are consumed. A context manager; `close` ends its thread and connections.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        submit_settings: SubmitSettings | None = None,
    ) -> None:
        self._client = AsyncClient(endpoints, timeout_s=timeout_s, submit_settings=submit_settings)
        self._loop = LoopThread("quorumflow-client")
        self.kv = Kv(self._loop, self._client.kv)
        """The replicated key-value space."""
        self.members = Members(self._loop, self._client.members)
        """Who belongs to the cluster."""
        self.namespaces = Namespaces(self._loop, self._client.namespaces)
        """What namespaces may have."""
        self.reservations = Reservations(self._loop, self._client.reservations)
        """Slots that are kept for namespaces."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread. A second call does nothing."""
        if self._loop.alive:
            self._loop.run(self._client.close())
            self._loop.stop()

    # --- DAGs -----------------------------------------------------------------------------------------------

    def submit(self, dag: Dag, *, request_id: str | None = None) -> str:
        """Submit a DAG; returns its id."""
        return self._loop.run(self._client.submit(dag, request_id=request_id))

    def submit_spec(self, spec: common_pb2.DagSpec, *, request_id: str | None = None) -> str:
        """Submit a DAG in the wire's form; returns its id."""
        return self._loop.run(self._client.submit_spec(spec, request_id=request_id))

    def run(self, dag: Dag, timeout_s: float | None = None, *, request_id: str | None = None) -> DagStatus:
        """Submit a DAG and wait until it has ended, in whichever state."""
        return self._loop.run(self._client.run(dag, timeout_s, request_id=request_id))

    def get(self, dag_id: str, *, allow_stale: bool = False) -> DagStatus:
        """A DAG as it is now, or with `allow_stale` as whichever node is asked knows it."""
        return self._loop.run(self._client.get(dag_id, allow_stale=allow_stale))

    def list(
        self, *, namespace: str = "", states: Iterable[str] = (), allow_stale: bool = False
    ) -> Iterator[DagStatus]:
        """All DAGs; of one namespace, in some states."""
        return self._loop.iterate(
            self._client.list(namespace=namespace, states=states, allow_stale=allow_stale)
        )

    def wait(self, dag_id: str, timeout_s: float | None = None) -> DagStatus:
        """Wait until the DAG has ended, in whichever state."""
        return self._loop.run(self._client.wait(dag_id, timeout_s))

    def cancel(self, dag_id: str, reason: str = "", *, request_id: str | None = None) -> str:
        """Cancel a DAG; returns its state."""
        return self._loop.run(self._client.cancel(dag_id, reason, request_id=request_id))

    # --- tasks ----------------------------------------------------------------------------------------------

    def tasks(
        self, dag_id: str, *, states: Iterable[str] = (), allow_stale: bool = False
    ) -> Iterator[TaskStatus]:
        """The tasks of a DAG in topological order."""
        return self._loop.iterate(self._client.tasks(dag_id, states=states, allow_stale=allow_stale))

    def task(self, dag_id: str, task_id: str, *, allow_stale: bool = False) -> TaskStatus:
        """One task with its attempts."""
        return self._loop.run(self._client.task(dag_id, task_id, allow_stale=allow_stale))

    def result(self, dag_id: str, task_id: str, *, allow_stale: bool = False) -> TaskResult:
        """What a task left."""
        return self._loop.run(self._client.result(dag_id, task_id, allow_stale=allow_stale))

    def cancel_task(
        self, dag_id: str, task_id: str, reason: str = "", *, request_id: str | None = None
    ) -> str:
        """Cancel a task and what depends on it; returns its state."""
        return self._loop.run(self._client.cancel_task(dag_id, task_id, reason, request_id=request_id))

    def reschedule(
        self, dag_id: str, task_id: str, reason: str = "", *, request_id: str | None = None
    ) -> str:
        """Take a task from its agent, or end its wait for the next attempt; returns its state."""
        return self._loop.run(self._client.reschedule(dag_id, task_id, reason, request_id=request_id))

    def explain(self, dag_id: str, task_id: str) -> Explanation:
        """Why a task is not running, or where it is."""
        return self._loop.run(self._client.explain(dag_id, task_id))

    # --- events ---------------------------------------------------------------------------------------------

    def watch(self, dag_id: str = "", from_revision: int = 0) -> Iterator[Event]:
        """Events in log order, without end: leave the loop to stop."""
        return self._loop.iterate(self._client.watch(dag_id, from_revision))

    # --- the cluster ----------------------------------------------------------------------------------------

    def cluster_status(self) -> ClusterStatus:
        """The cluster as its leader sees it."""
        return self._loop.run(self._client.cluster_status())

    def node_status(self, endpoint: str) -> NodeStatus:
        """One node as it sees itself."""
        return self._loop.run(self._client.node_status(endpoint))

    def backup(self, endpoint: str) -> Iterator[bytes]:
        """The pieces of a backup file from one node, as fast as they are consumed."""
        return self._loop.iterate(self._client.backup(endpoint))

    def agents(self) -> Iterator[AgentStatus]:
        """All agents."""
        return self._loop.iterate(self._client.agents())

    def groups(self) -> Iterator[GroupStatus]:
        """Agents by group, as placement sees them."""
        return self._loop.iterate(self._client.groups())

    def forecasts(
        self, agent_id: str | None = None, *, series: str = "", horizon: str = ""
    ) -> Iterator[Forecast]:
        """Forecasts of load: of one agent ("": of the cluster itself), one series, one horizon, or of all."""
        return self._loop.iterate(self._client.forecasts(agent_id, series=series, horizon=horizon))

    def decisions(self, *, follow: bool = False) -> Iterator[Decision]:
        """What placement has decided of late; with `follow` without end."""
        return self._loop.iterate(self._client.decisions(follow=follow))

    def drain_agent(self, agent_id: str, *, undo: bool = False, request_id: str | None = None) -> str:
        """Give an agent nothing new, or `undo` that; returns its state."""
        return self._loop.run(self._client.drain_agent(agent_id, undo=undo, request_id=request_id))

    def drain_node(self, node_id: str, *, undo: bool = False) -> str:
        """Move leadership away from a node, or `undo` that; returns the leader's id."""
        return self._loop.run(self._client.drain_node(node_id, undo=undo))
