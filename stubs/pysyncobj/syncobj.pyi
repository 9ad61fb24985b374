# ruff: noqa: N801, N802, N803 - the names are the library's
from collections.abc import Callable, Iterable

from pysyncobj.config import SyncObjConf
from pysyncobj.journal import Journal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

class _RAFT_STATE:
    FOLLOWER: int
    CANDIDATE: int
    LEADER: int

class SyncObj:
    _SyncObj__connectedNodes: set[Node]
    _SyncObj__otherNodes: set[Node]
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__raftLastApplied: int
    _SyncObj__raftLeader: Node | None
    _SyncObj__raftLog: Journal
    _SyncObj__raftState: int
    _SyncObj__transport: Transport
    _SyncObj__votedForNodeId: str | None
    def __init__(
        self,
        selfNode: Node,
        otherNodes: Iterable[Node],
        conf: SyncObjConf,
        *,
        nodeClass: type[Node],
        transport: Transport,
    ) -> None: ...
    def _SyncObj__onMessageReceived(self, node: Node, message: object) -> None: ...
    def _SyncObj__onNodeConnected(self, node: Node) -> None: ...
    def _SyncObj__onNodeDisconnected(self, node: Node) -> None: ...
    def _SyncObj__setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None: ...
    def _SyncObj__setState(self, newState: int) -> None: ...
    def _applyCommand(
        self,
        command: bytes,
        callback: Callable[[object, int], None] | None,
        commandType: int | None = None,
    ) -> None: ...
    def doTick(self, timeToWait: float = 0.0) -> None: ...
    def _onTick(self, timeToWait: float = 0.0) -> None: ...
    @property
    def selfNode(self) -> Node: ...
