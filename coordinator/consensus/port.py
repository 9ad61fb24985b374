"""What the rest of a node needs of consensus, and what consensus needs of it. Nothing here knows PySyncObj.

Log indexes start at 1, which is the empty entry that every log begins with; the first index of real
entries is 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from coordinator.consensus.changes import Change
from coordinator.consensus.membership import Member as Member
from coordinator.consensus.membership import Membership
from coordinator.core.position import SnapshotMeta as SnapshotMeta
from coordinator.errors import Fatal


class Role(StrEnum):
    """What a node is in its term."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Abstention(IntEnum):
    """Why a node leaves it to others to stand for election. DRAINED: its operator asked for it; NO_SPACE: its
    disk is nearly full, so that it stands only if nobody else does."""

    NONE = 0
    DRAINED = 1
    NO_SPACE = 2


class Committed(msgspec.Struct, frozen=True, gc=False):
    """An entry that a majority holds. `payload` is empty for entries of consensus itself."""

    index: int
    term: int
    payload: bytes


class SnapshotReader(Protocol):
    """The state at one applied index, as a run of chunks. Close it when done: it pins old data."""

    meta: SnapshotMeta

    def chunks(self) -> Iterator[bytes]:
        """The content, in order, each chunk of bounded size; at least one."""

    def close(self) -> None:
        """Let go."""


class SnapshotWriter(Protocol):
    """Takes a snapshot's chunks into a place of its own; nothing of the present state changes before
    `install`. Chunks, then `prepare`, then `install`, and `discard` at the end or instead of the rest."""

    def write(self, chunk: bytes) -> None:
        """Take the next chunk. Raises StateCorrupt if it cannot be read."""

    def prepare(self) -> None:
        """Verify the whole, and do all that takes long before it can be installed. Blocking; called in a
        thread, while `apply` goes on. Raises StateCorrupt if it does not verify."""

    def install(self) -> None:
        """Put it in place of the present state, atomically and at once."""

    def discard(self) -> None:
        """Free what is no longer needed: what was replaced, or a snapshot that is not installed. Blocking;
        called in a thread."""


class Replica(Protocol):
    """The state machine, as consensus drives it. Everything is called on the event loop, from one task at a
    time."""

    @property
    def applied(self) -> SnapshotMeta:
        """Index, term and digest of the last entry whose effect is in the state."""

    def digest_at(self, index: int) -> bytes | None:
        """The digest of the state after the entry `index`; None if it is not, or no longer, known."""

    def apply(self, entries: Sequence[Committed]) -> None:
        """Apply a run of committed entries that begins at `applied.index + 1`. Raising stops the node."""

    def on_role(self, role: Role, term: int, leader: str | None) -> None:
        """The node's role, term or known leader changed. LEADER: elected; entries of earlier terms may not be
        applied yet."""

    def on_fatal(self, error: Exception) -> None:
        """Consensus has stopped for good: the node must not serve."""

    def read_snapshot(self) -> SnapshotReader:
        """A consistent reading of the state at `applied`."""

    def write_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin to receive the state at `meta`."""

    def flush(self) -> None:
        """Make the applied state durable, so that the log before it may go. Blocking; called in a thread."""


class PeerStatus(msgspec.Struct, frozen=True):
    """A member as the leader last heard of it; `age_s` seconds ago, -1 if never. `differs_at` is the first
    entry after which its state was seen to differ from the leader's, 0 if none."""

    id: str
    connected: bool
    match_index: int
    applied: SnapshotMeta
    age_s: float
    abstains: Abstention = Abstention.NONE
    differs_at: int = 0


class Status(msgspec.Struct, frozen=True):
    """Where this node stands."""

    id: str
    role: Role
    term: int
    leader: str | None
    commit_index: int
    last_index: int
    first_index: int
    durable_index: int
    applied: SnapshotMeta
    membership: Membership
    peers: list[PeerStatus]
    counters: dict[str, int]


class Consensus(Protocol):
    """One node's part in the cluster."""

    async def start(self) -> None:
        """Open the listening port and begin to take part. Raises StartFailed if the port cannot be had."""

    async def stop(self) -> None:
        """Leave: hand leadership over if there is somebody to take it, then close."""

    def propose(self, payload: bytes) -> tuple[int, int]:
        """Append an entry as the leader; returns its (index, term). It is committed when `Replica.apply`
        meets that index with that term; met with another term, or after leadership is lost and regained
        elsewhere, it was replaced.

        Raises:
            NotLeader: this node does not lead.
            QueueFull: too much is in flight already.
            LimitExceeded: the payload is larger than one entry may be.
        """

    def push(self) -> None:
        """Send what was proposed, and begin to sync it. Without this it happens when the present iteration of
        the event loop ends."""

    async def read_index(self) -> int:
        """An index such that a read of the state applied up to it is linearizable. Raises NotLeader."""

    async def transfer_leadership(self, target: str | None = None) -> str:
        """Hand leadership to `target`, or to the most caught-up member; returns its id.

        Raises:
            NotLeader: this node does not lead.
            NotFound: the target is not a member.
            WrongState: nobody can take over, or the target does not vote, is not connected, or was too slow.
        """

    async def resign(self, term: int) -> None:
        """Lead no longer, if this node leads `term`: hand leadership over, or where nobody can take it follow
        until there is an election."""

    async def change_membership(self, change: Change) -> Membership:
        """Add, promote, remove, replace or update a member, one change at a time; returns once it is
        committed.

        Raises:
            NotLeader: this node does not lead.
            Unavailable: another change or a transfer is under way, or the leader's term has only begun.
            WrongState: it must not be made now; the message says why.
            NotFound, AlreadyExists, LimitExceeded: as `changes.changed`.
            OutcomeUnknown: leadership was lost meanwhile. A change may be repeated.
        """

    @property
    def membership(self) -> Membership:
        """Who belongs to the cluster, by the newest configuration in this node's log."""

    def abstain(self, why: Abstention) -> None:
        """Leave it to the other nodes to stand for election, or with NONE stand again. Voting goes on either
        way."""

    def fail(self, error: Fatal) -> None:
        """Stop for good, as after any fault of consensus itself: this node's disk is not to be trusted."""

    def age_s(self) -> float:
        """How many seconds ago this node last knew that its state held all that was committed; infinite if
        never. Of use on a follower."""

    def status(self) -> Status:
        """Where this node stands now."""
