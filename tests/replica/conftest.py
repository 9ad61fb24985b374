"""Builders for the tests of the shell's parts: entries as consensus hands them over, an applier on real
RocksDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from coordinator.consensus.port import Committed
from coordinator.core.commands import (
    FORMAT,
    Assign,
    AttemptReport,
    Choice,
    Command,
    Entry,
    OpenSession,
    Report,
    ReportKind,
    SubmitDag,
)
from coordinator.core.model import AgentSpec, AttemptOutcome, DagHeader, TaskBlock, TaskProfile, task_key
from coordinator.core.state import State
from coordinator.replica.applier import Applier
from coordinator.storage.state_home import FolderHome
from coordinator.storage.state_store import StateStore
from tests.replica.terms import Term

MakeApplier = Callable[[str], Applier]


class Log:
    """Entries with consecutive indexes, as a log would hold them."""

    def __init__(self) -> None:
        self.entries: list[Committed] = []

    def add(self, *commands: Command, at_ms: int = 1_000, version: int = FORMAT) -> Committed:
        """Append an entry with these commands, in this version of the format."""
        payload = msgspec.msgpack.encode(Entry(version, at_ms, list(commands)))
        self.entries.append(Committed(2 + len(self.entries), 1, payload))
        return self.entries[-1]

    def chain(self, dag_id: str, length: int = 3, payload: bytes = b"payload") -> Committed:
        """Submit a chain of tasks t0 -> t1 -> ..."""
        block = TaskBlock(
            0,
            [f"t{at}" for at in range(length)],
            [0] * length,
            [(at - 1,) if at else () for at in range(length)],
            [payload] * length,
            [0] * length,
        )
        return self.add(SubmitDag(f"request-{dag_id}", DagHeader(dag_id), [TaskProfile("noop")], block))

    def agent(self, agent_id: str) -> Committed:
        """An agent says hello."""
        return self.add(OpenSession(AgentSpec(agent_id, "instance", 2, 8), []))

    def end(self, state: State, agent_id: str, index: int, *, version: int = FORMAT) -> Committed:
        """The agent is given a task of the first DAG, and completes it after a second."""
        epoch, key = state.agents[agent_id].record.epoch, task_key(1, index)
        done = AttemptReport(
            key, 1, ReportKind.ENDED, outcome=AttemptOutcome.COMPLETED, duration_us=1_000_000
        )
        choice = Choice(key, 1, agent_id, epoch)
        return self.add(Assign([choice]), Report(agent_id, epoch, [done]), version=version)


@pytest.fixture
def log() -> Log:
    """An empty log."""
    return Log()


@pytest.fixture
def make_applier(tmp_path: Path) -> Iterator[MakeApplier]:
    """An applier on the folder of that name; the same name opens the same folder again."""
    stores: dict[str, StateStore] = {}

    def make(name: str) -> Applier:
        if name in stores:
            stores.pop(name).close()
        stores[name] = StateStore(FolderHome(tmp_path / name))
        return Applier(stores[name], max_events=1_000, kv_history_bytes=1 << 20, max_digests=100)

    yield make
    for store in stores.values():
        store.close()


@pytest.fixture
async def term(log, make_applier) -> AsyncIterator[Term]:
    made = Term(log, make_applier("a"))
    yield made
    made.leader.stop()
