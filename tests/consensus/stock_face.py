"""`StockFace`: our class behind stock PySyncObj's constructor and `@replicated` methods, for programs that
were written for those.

Its disk outlives it: the journal object that the program passes carries the engine, and a new object with
the same journal finds there what was synced. Syncs take until a later tick, as on a real disk.
"""

from __future__ import annotations

import importlib
import pickle
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pysyncobj import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from coordinator.consensus.hardened import HardenedSyncObj
from coordinator.consensus.journal import FAMILIES, Journal
from coordinator.consensus.membership import Member, Membership
from coordinator.consensus.port import Committed, Role, SnapshotMeta, SnapshotReader, SnapshotWriter
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import CoordinatorError
from tests.consensus.memory import ManualWorker, MemoryEngine

library: Any = importlib.import_module("pysyncobj.syncobj")

SUCCESS, DISCARDED = 0, 3
_SYNC_CHANCE = 0.7

SETTINGS = RaftSettings(max_append_bytes=1500, window_messages=128, tail_entries=50, apply_entries=50)
"""Small messages and a small tail, so that every path is taken; a window that lets a node that lost its
state catch up within the five seconds that the programs leave it."""


class StockFace(HardenedSyncObj):
    """Takes what `SyncObj` takes; the transport delivers and the program ticks, as with the library's own
    class."""

    def __init__(
        self,
        selfNode: Node | str,  # noqa: N803
        otherNodes: Iterable[Node | str],  # noqa: N803
        conf: SyncObjConf,
        *,
        transport: Transport,
        nodeClass: type[Node] | None = None,  # noqa: N803
    ) -> None:
        me = selfNode if isinstance(selfNode, str) else selfNode.id
        peers = [node if isinstance(node, str) else node.id for node in otherNodes]
        disk = _disk_of(conf)
        disk.crash(kept=random.randint(0, disk.unsynced))
        self._disk_worker = ManualWorker()
        self._waiting: dict[int, tuple[int, Callable[[Any, int], None] | None]] = {}
        super().__init__(
            me,
            incarnation="",
            transport=transport,
            journal=Journal(
                disk,
                founders=Membership(tuple(Member(one, "", "") for one in (me, *peers))),
                tail_entries=SETTINGS.tail_entries,
                tail_bytes=SETTINGS.tail_bytes,
            ),
            replica=_Methods(self),
            settings=SETTINGS,
            now=lambda: float(library.monotonicTime()),
            rng=random.Random(random.random()),
            syncer=self._disk_worker,
            flusher=ManualWorker(),
            wake=lambda: None,
            reconfigured=lambda: None,
        )

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803
        if random.random() < _SYNC_CHANCE:
            self._disk_worker.finish()
        super()._onTick()

    def _applyCommand(  # noqa: N802
        self,
        command: bytes,
        callback: Callable[[Any, int], None] | None,
        commandType: int | None = None,  # noqa: N803
    ) -> None:
        try:
            index, term = self.propose(command)
        except CoordinatorError:
            return
        self._waiting[index] = (term, callback)

    def run_command(self, entry: Committed) -> None:
        """Call the replicated method that an entry holds, and tell whoever waits for it."""
        term, callback = self._waiting.pop(entry.index, (0, None))
        if not entry.payload:
            return
        method, arguments = pickle.loads(entry.payload)
        methods: dict[int, Callable[..., Any]] = vars(self)["_idToMethod"]
        result = methods[method](*arguments, _doApply=True)
        if callback is not None:
            callback(result, SUCCESS if term == entry.term else DISCARDED)


def _disk_of(conf: Any) -> MemoryEngine:
    """The engine that the program's journal object carries from one life of a node to the next."""
    journal = conf.journalFile
    if not hasattr(journal, "disk"):
        journal.disk = MemoryEngine(FAMILIES)
    disk: MemoryEngine = journal.disk
    return disk


class _Methods:
    """The state machine is the object's own fields: lost with it, and made again from the log."""

    def __init__(self, owner: StockFace) -> None:
        self._owner = owner
        self.applied = SnapshotMeta(1, 0, b"")

    def digest_at(self, index: int) -> bytes | None:
        return b"" if index <= self.applied.index else None

    def apply(self, entries: Sequence[Committed]) -> None:
        for entry in entries:
            self._owner.run_command(entry)
            self.applied = SnapshotMeta(entry.index, entry.term, b"")

    def on_role(self, role: Role, term: int, leader: str | None) -> None:
        """The program asks the object itself."""

    def on_fatal(self, error: Exception) -> None:
        raise error

    def read_snapshot(self) -> SnapshotReader:
        raise NotImplementedError("these programs never compact the log")

    def write_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        raise NotImplementedError("these programs never compact the log")

    def flush(self) -> None:
        """Nothing to keep."""
