"""PySyncObj as this project uses it: the role, the term, the vote, the members and the commit index, under
names of our own.

All knowledge of the library's private names is here and in `hardened`. Its logic of elections,
replication, apply and snapshots is replaced by the parts that `hardened` puts together;
`docs/divergence.md` says why, defect by defect.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.journal import Journal as PySyncObjJournal
from pysyncobj.node import Node
from pysyncobj.syncobj import _RAFT_STATE
from pysyncobj.transport import Transport

from coordinator.consensus.ballot import majority
from coordinator.consensus.journal import Journal
from coordinator.consensus.messages import Message
from coordinator.consensus.port import Abstention, Replica, Role
from coordinator.consensus.settings import RaftSettings
from coordinator.stages import Stages

_ROLES = {
    _RAFT_STATE.FOLLOWER: Role.FOLLOWER,
    _RAFT_STATE.CANDIDATE: Role.CANDIDATE,
    _RAFT_STATE.LEADER: Role.LEADER,
}
_STATES = {role: state for state, role in _ROLES.items()}


class _LogFace(PySyncObjJournal):
    """The journal as the library's remaining methods ask for it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __len__(self) -> int:
        return self._journal.last_index - self._journal.base.index

    def __getitem__(self, item: int) -> tuple[bytes, int, int]:
        if item != -1:
            raise IndexError(f"only the last entry is read here, not {item}")
        last = self._journal.last
        return b"", last.index, last.term

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        self._journal.set_vote(term, votedForNodeId)

    def _destroy(self) -> None:
        """The engine below belongs to the node, which closes it."""


class SyncObjSeam(SyncObj):
    """One member of the cluster: what the parts of consensus share. Nothing here decides anything.

    `now` gives monotonic seconds. The base class looks at every attribute of `self` while it is
    constructed, so properties must not need more than it has set by then.
    """

    def __init__(
        self,
        me: str,
        *,
        transport: Transport,
        journal: Journal,
        replica: Replica,
        settings: RaftSettings,
        now: Callable[[], float],
        rng: random.Random,
        stages: Stages | None = None,
    ) -> None:
        self.me = me
        self.journal = journal
        self.replica = replica
        self.settings = settings
        self.now = now
        self.rng = rng
        self.counters: Counter[str] = Counter()
        self.stages = stages or Stages(now)
        self.abstains = Abstention.NONE
        """Whether this node leaves it to others to stand for election; it votes all the same."""
        self._nodes: dict[str, Node] = {}
        self._linked: set[str] = set()
        self.adopt_configuration()
        super().__init__(
            Node(me),
            [self._node(peer) for peer in self.peers],
            SyncObjConf(autoTick=False, appendEntriesUseBatch=True),
            nodeClass=Node,
            transport=transport,
        )
        self._SyncObj__raftLog = _LogFace(journal)
        self._SyncObj__raftCurrentTerm = journal.term
        self._SyncObj__votedForNodeId = journal.voted_for
        self._SyncObj__raftCommitIndex = replica.applied.index
        self._SyncObj__raftLastApplied = replica.applied.index

    def adopt_configuration(self) -> None:
        """Go by the newest configuration of the log. What follows from it is worked out here, once a change,
        since every message asks for it."""
        self.configuration = self.journal.configuration
        membership = self.configuration.membership
        self.peers = tuple(sorted(member.id for member in membership if member.id != self.me))
        """All other members."""
        self.voters = frozenset(voter.id for voter in membership.voters)
        self.other_voters = tuple(sorted(self.voters - {self.me}))
        self.belongs = membership.get(self.me) is not None
        self.votes = self.me in self.voters
        """Whether this node counts."""
        self.quorum = majority(len(self.voters))
        """How many voters make a majority."""

    @property
    def configuration_committed(self) -> bool:
        """Whether the newest configuration can not be replaced by the one before it any more."""
        return self.configuration.index <= self.commit_index

    @property
    def may_stand(self) -> bool:
        """Whether this node may stand for election: as a voter, or as one whose removal is not committed. It
        may be the only one to know of that, so that the voters, whose logs end before it, cannot elect
        another; it does not count itself (Ongaro's thesis, section 4.2.2)."""
        if self.votes or self.configuration_committed:
            return self.votes
        return self.journal.configuration_at(self.commit_index).membership.is_voter(self.me)

    @property
    def term(self) -> int:
        """The node's term."""
        return self._SyncObj__raftCurrentTerm

    @property
    def voted_for(self) -> str | None:
        """Whom this node voted for in its term."""
        return self._SyncObj__votedForNodeId

    def set_vote(self, term: int, voted_for: str | None) -> None:
        """Enter `term` with that vote; durable on return."""
        self._SyncObj__setCurrentTerm(term, voted_for)

    @property
    def role(self) -> Role:
        """What the node is in its term."""
        return _ROLES[self._SyncObj__raftState]

    @role.setter
    def role(self, role: Role) -> None:
        self._SyncObj__setState(_STATES[role])

    @property
    def leader(self) -> str | None:
        """The leader of the term, as far as this node knows."""
        node = self._SyncObj__raftLeader
        return None if node is None else node.id

    @leader.setter
    def leader(self, leader: str | None) -> None:
        self._SyncObj__raftLeader = None if leader is None else Node(leader)

    def follow(self, term: int, *, leader: str | None = None, voted_for: str | None = None) -> None:
        """Be a follower in `term`, of `leader` if that is known; `voted_for` is recorded if the term is
        new."""
        if term > self.term:
            self.set_vote(term, voted_for)
        self.role = Role.FOLLOWER
        self.leader = leader

    @property
    def commit_index(self) -> int:
        """Entries up to it are held by a majority; it never goes back."""
        return self._SyncObj__raftCommitIndex

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed."""
        self._SyncObj__raftCommitIndex = max(self._SyncObj__raftCommitIndex, index)

    @property
    def applied_index(self) -> int:
        """Entries up to it were handed to the state machine."""
        return self._SyncObj__raftLastApplied

    @applied_index.setter
    def applied_index(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    @property
    def election_deadline(self) -> float:
        """When this node stands for election if it hears of no leader, in the seconds of `now`."""
        return self._SyncObj__raftElectionDeadline

    @election_deadline.setter
    def election_deadline(self, at: float) -> None:
        self._SyncObj__raftElectionDeadline = at

    def _SyncObj__onNodeConnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeConnected(node)
        self._linked.add(node.id)

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeDisconnected(node)
        self._linked.discard(node.id)

    def connected(self, peer: str) -> bool:
        """Whether messages to `peer` have a way to go."""
        return peer in self._linked

    def send(self, peer: str, message: Message) -> bool:
        """Give a message to the transport; False if it is lost already."""
        sent = self._SyncObj__transport.send(self._node(peer), message)
        if not sent:
            self.counters["messages_not_sent"] += 1
        return sent

    def _node(self, peer: str) -> Node:
        """The library's name for a node."""
        if peer not in self._nodes:
            self._nodes[peer] = Node(peer)
        return self._nodes[peer]
