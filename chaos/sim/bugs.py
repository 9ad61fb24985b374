"""Bugs to plant: each takes back one thing that the design says must not be left out.

They are replacements of single pieces of the product's code, which has no switch for any of them;
`planted` puts one in and takes it out again. Where it serves, a replacement reaches below the surface of
what it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from coordinator.api import agent_service
from coordinator.consensus import admission, belonging, records
from coordinator.consensus.admission import Credentials, Refusal
from coordinator.consensus.ballot import majority
from coordinator.consensus.election import Election
from coordinator.consensus.follower import Follower
from coordinator.consensus.framing import FrameReader
from coordinator.consensus.hardened import HardenedSyncObj
from coordinator.consensus.journal import Journal, VoteRecord
from coordinator.consensus.leadership import Leadership
from coordinator.consensus.membership import Configuration
from coordinator.consensus.messages import AppendEntries, AppendReply, VoteRequest
from coordinator.consensus.reads import ReadDone
from coordinator.consensus.reconfiguration import Reconfiguration
from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.transport import Dialler, WireTransport
from coordinator.core import commands as c
from coordinator.core import machine, model
from coordinator.core.appliers import kv, tasks
from coordinator.core.model import INDEX_BITS, Agent, AgentState, Attempt, AttemptOutcome, Task, TaskState
from coordinator.core.namespaces import Quotas, Usage
from coordinator.core.outcome import Done, Reply, Table
from coordinator.core.position import SnapshotMeta
from coordinator.core.requirements import Resources
from coordinator.core.transaction import Transaction
from coordinator.scheduling.plans.round import Round
from coordinator.storage.engine import View
from coordinator.storage.layout import FORMAT, PLACES, Stored
from coordinator.storage.snapshots import StateReader
from coordinator.storage.state_store import StoredState


class Swap(NamedTuple):
    """`name` of `owner`, a class, a module or a dictionary, is to be `replacement`."""

    owner: Any
    name: Any
    replacement: Any


class Bug(NamedTuple):
    """`breaks` says what is left out; `kinds` are the faults that bring it to light, none if any do."""

    name: str
    breaks: str
    swaps: tuple[Swap, ...]
    kinds: tuple[str, ...]


BUGS: Final[dict[str, Bug]] = {}
"""By name."""


def _plants(
    name: str, owner: Any, attribute: Any, *more: Swap, kinds: tuple[str, ...] = ()
) -> Callable[[Any], Any]:
    """The decorated function takes the place of `attribute` of `owner`; its docstring says what it breaks."""

    def register(replacement: Any) -> Any:
        swaps = (Swap(owner, attribute, replacement), *more)
        BUGS[name] = Bug(name, " ".join(replacement.__doc__.split()), swaps, kinds)
        return replacement

    return register


# --- votes --------------------------------------------------------------------------------------------------


@_plants("vote twice", Election, "_vote", kinds=("kill", "halves", "reset"))
def _vote(election: Election, candidate: str, request: VoteRequest) -> bool:
    """A voter forgets whom it has voted for in the term."""
    node = election._node
    if request.term < node.term or not election._is_up_to_date(request):
        return False
    node.follow(request.term)
    node.set_vote(request.term, candidate)
    election.postpone()
    return True


@_plants("show a vote before its sync", Journal, "set_vote")
def _set_vote(journal: Journal, term: int, voted_for: str | None) -> None:
    """Term and vote are written, and not synced before others hear of them."""
    batch = journal._engine.batch()
    records.put(batch, b"vote", VoteRecord(term, voted_for))
    journal._engine.write(batch)
    journal._vote = VoteRecord(term, voted_for)


@_plants("elect whoever asks", Election, "_is_up_to_date", kinds=("kill", "slow_link"))
def _is_up_to_date(election: Election, request: VoteRequest) -> bool:
    """A candidate gets votes whose log lacks what the voter has."""
    del election, request
    return True


# --- followers ----------------------------------------------------------------------------------------------

_feed = FrameReader.feed
_append, _finish_sync, _receive = Follower.append, Journal.finish_sync, HardenedSyncObj._receive


@_plants("acknowledge before sync", Follower, "answer")
def _answer(follower: Follower) -> None:
    """A follower acknowledges entries that it has written and not synced."""
    node = follower._node
    if follower._owed:
        match = min(follower._matched, node.journal.last.index)
        node.send(
            follower._leader,
            AppendReply(node.term, follower._seq, match, node.replica.applied, node.abstains),
        )
        follower._owed = False


@_plants(
    "truncate blindly", Follower, "_keep_new", kinds=("message_doubling", "message_overtaking", "slow_link")
)
def _keep_all(follower: Follower, message: AppendEntries) -> None:
    """A follower cuts its log wherever a message begins, however old the message is."""
    journal = follower._node.journal
    skipped = max(0, journal.base.index - message.prev_index)
    if message.entries[skipped:]:
        journal.replace_from(message.prev_index + skipped + 1, message.entries[skipped:])


# --- leaders ------------------------------------------------------------------------------------------------


def _commit(leadership: Leadership, index: int) -> None:
    """What `advance_commit` does once it knows how far."""
    if index > leadership._node.commit_index:
        leadership._node.commit_to(index)
        leadership._commit_news_s = leadership._node.now()
        while leadership._uncommitted and leadership._uncommitted[0][0] <= index:
            leadership._uncommitted_bytes -= leadership._uncommitted.popleft()[1]


def _acknowledged(leadership: Leadership) -> list[int]:
    return [peer.progress.match for peer in leadership._other_voters()]


@_plants(
    "commit what the leader has not synced", Leadership, "advance_commit", kinds=("disk_slow", "power_loss")
)
def _commit_unsynced(leadership: Leadership) -> None:
    """A leader counts its own entries before they are durable."""
    journal = leadership._node.journal
    index = leadership._by_majority(_acknowledged(leadership), journal.last.index)
    if journal.term_at(index) == leadership._node.term:
        _commit(leadership, index)


@_plants(
    "commit an old term by counting",
    Leadership,
    "advance_commit",
    kinds=("transfer", "isolate"),
)
def _commit_any_term(leadership: Leadership) -> None:
    """A leader commits entries of earlier terms by counting them (Raft, figure 8)."""
    journal = leadership._node.journal
    _commit(leadership, leadership._by_majority(_acknowledged(leadership), journal.durable_index))


@_plants(
    "accept a stale acknowledgement",
    HardenedSyncObj,
    "_receive",
    kinds=("transfer", "slow_link", "message_doubling", "message_overtaking"),
)
def _receive_stale(node: HardenedSyncObj, peer: str, message: object) -> None:
    """A leader takes acknowledgements of terms that are over for those of its own."""
    if isinstance(message, AppendReply) and node.leadership is not None and message.term < node.term:
        node._hear_follower(node.leadership, peer, message)
    else:
        _receive(node, peer, message)


@_plants("read without asking", HardenedSyncObj, "read_index", kinds=("pause", "isolate"))
def _read_at_once(node: HardenedSyncObj, done: ReadDone) -> None:
    """A leader serves reads without hearing from a majority that it still leads."""
    node._leading()
    done(node.commit_index)


# --- membership ---------------------------------------------------------------------------------------------

_busy, _adopt, _objection = Reconfiguration._busy, SyncObjSeam.adopt_configuration, admission.objection


@_plants(
    "change two things at once", Reconfiguration, "_busy", kinds=("member_add", "member_remove", "slow_link")
)
def _busy_at_first(changes: Reconfiguration) -> str:
    """A leader begins a change of the membership while the one before it is not committed."""
    begun = changes._node.commit_index >= changes._leadership.opening_index
    return "" if begun else _busy(changes)


@_plants("change before the term is settled", Reconfiguration, "_busy", kinds=("member_remove", "transfer"))
def _busy_with_changes(changes: Reconfiguration) -> str:
    """A leader changes the membership before an entry of its own term is committed."""
    return "" if changes._node.configuration_committed else _busy(changes)


@_plants("let in a wiped node", belonging, "objection", kinds=("member_wipe",))
def _no_objection(newest: Configuration, *, committed: bool, peer: Credentials) -> Refusal | None:
    """Whoever comes under a member's id is let in, whatever data folder it has."""
    refusal = _objection(newest, committed=committed, peer=peer)
    return refusal if newest.membership.get(peer.node) is None else None


@_plants("count who learns", SyncObjSeam, "adopt_configuration", kinds=("member_add", "kill"))
def _adopt_all(node: SyncObjSeam) -> None:
    """A new member votes and is counted from the first moment."""
    _adopt(node)
    node.voters = frozenset(member.id for member in node.configuration.membership)
    node.other_voters = node.peers
    node.votes = node.belongs
    node.quorum = majority(len(node.voters))


@_plants("count the leader that was removed", Leadership, "_by_majority", kinds=("member_remove", "transfer"))
def _by_all(leadership: Leadership, of_peers: list[float], own: float) -> float:
    """A leader that is being removed counts itself."""
    return sorted([*of_peers, own], reverse=True)[leadership._node.quorum - 1]


# --- links --------------------------------------------------------------------------------------------------


@_plants("dial once", Dialler, "_keep_connected", kinds=("reset", "isolate", "kill"))
async def _connect_once(dialler: Dialler) -> None:
    """A link that has broken is not made again."""
    with contextlib.suppress(OSError, TimeoutError):
        await dialler._hold_one_connection(dialler._owner.places(dialler._peer)[0])


@_plants("go by what is written", WireTransport, "places", kinds=("member_move", "member_wipe"))
def _written_places(links: WireTransport, peer: str) -> list[str]:
    """Members are called where a node's configuration or log has them, not where they say that they are."""
    return [links._peers.get(peer) or links._announced[peer]]


@_plants("keep links that must go", WireTransport, "reach", kinds=("member_remove", "member_wipe"))
def _reach_more(links: WireTransport, peers: Mapping[str, str]) -> None:
    """A link stays, though the member at its other end has been removed or replaced."""
    links._peers = dict(peers)
    if links._port is not None:
        for peer in peers:
            links._dial(peer)


@_plants("drop half a frame", FrameReader, "feed")
def _feed_whole(reader: FrameReader, data: bytes) -> Iterator[bytes]:
    """What has come of a frame is dropped if the rest comes later."""
    reader._buffer.clear()
    yield from _feed(reader, data)


# --- state and snapshots ------------------------------------------------------------------------------------

_APPLIED: Final = (PLACES[Table.META].family, b"#applied")

_state_reader = StateReader.__init__


class _Relabelled:
    """A view whose state claims to be at another entry."""

    def __init__(self, view: View, claimed: SnapshotMeta) -> None:
        self._view = view
        self._claimed = msgspec.msgpack.encode((FORMAT, claimed))
        self.close = view.close

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._view.items(family, start, end):
            yield key, self._claimed if (family, key) == _APPLIED else value


@_plants("snapshot at the wrong index", StateReader, "__init__", kinds=("isolate", "kill", "pause"))
def _read_mislabelled(reader: StateReader, store: StoredState) -> None:
    """A snapshot says that it holds one more entry than it does."""
    _state_reader(reader, store)
    reader.meta = msgspec.structs.replace(reader.meta, index=reader.meta.index + 1)
    reader._view = _Relabelled(reader._view, reader.meta)


_commit_state = StoredState.commit


@_plants("apply twice after a restart", StoredState, "commit", kinds=("kill", "power_loss"))
def _commit_in_two(store: StoredState, writes: Iterable[Stored], applied: SnapshotMeta) -> None:
    """The state and its applied index are written one after the other."""
    _commit_state(store, writes, store.applied)
    _commit_state(store, (), applied)


_applications = count()
_next_sequence = Transaction.next_sequence


@_plants("apply differently on each node", Transaction, "next_sequence")
def _next_odd_sequence(tx: Transaction) -> int:
    """What applying an entry gives depends on more than the entry and the state."""
    tx.state.machine.sequence += next(_applications) % 2
    return _next_sequence(tx)


# --- sessions -----------------------------------------------------------------------------------------------


@_plants("forget the end of a session", agent_service._Stream, "serve", kinds=("agent_lost",))
async def _serve(stream: agent_service._Stream) -> None:
    """The end of an agent's session is recorded last: not if its server is cancelled while it cleans up."""
    session = await stream._open()
    reader = asyncio.create_task(stream._read(session))
    writer = asyncio.create_task(stream._write())
    try:
        done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (reader, writer, *stream._tasks):
            task.cancel()
        await asyncio.gather(reader, writer, *stream._tasks, return_exceptions=True)
        await stream._node.sessions.close(session, goodbye=stream._goodbye)


# --- commands -----------------------------------------------------------------------------------------------


@_plants("forget a request id", machine, "_remember", kinds=("retry_storm",))
def _forget(tx: Transaction, request_id: str, reply: Reply) -> None:
    """The reply to a request is not kept for its retries."""


@_plants("forget the number of a write", kv, "recall", kinds=("reset",))
def _recall_nothing(tx: Transaction, write: c.WriteId) -> Reply | None:
    """A write to the key-value space is carried out at each try."""


@_plants("skip a fence", machine.APPLIERS, c.Report, kinds=("agent_cut", "agent_pause", "moves"))
def _report(tx: Transaction, command: c.Report) -> Reply:
    """A report counts for a task's present attempt, whichever attempt and session it is of."""
    agent = tx.state.agents.get(command.agent)
    for one in command.reports:
        task = tx.state.task(one.key)
        if agent is not None and task is not None and task.live:
            tasks._take_report(tx, task, task.live[-1], one)
        if one.kind is c.ReportKind.ENDED:
            tx.effects.acked.append((command.agent, one.key, one.attempt))
    return Done(len(command.reports))


@_plants("unlock a successor early", Transaction, "complete")
def _complete(tx: Transaction, task: Task, attempt: Attempt) -> None:
    """A task may run once one of those that it depends on is done."""
    tx._close(task, attempt, AttemptOutcome.COMPLETED, "")
    tx.move(task, TaskState.COMPLETED)
    tx.touch_task(task)
    known = tx.state.dags[task.key >> INDEX_BITS].tasks
    for successor in (known[index] for index in task.successors):
        successor.waiting -= 1
        if successor.state is TaskState.PENDING:
            tx.move(successor, TaskState.READY)


def _gives_nothing_away(*_: object) -> float:
    """The round forgets what it has given away."""
    return 0.0


@_plants(
    "assign beyond capacity",
    tasks,
    "_still_holds",
    Swap(Round, "give", _gives_nothing_away),
    kinds=("stall",),
)
def _holds_anyway(choice: c.Choice, task: Task, agent: Agent) -> bool:
    """A round counts on the same room for every task, and nobody looks again."""
    return (
        task.attempt + 1 == choice.attempt
        and agent.record.epoch == choice.epoch
        and agent.record.state is AgentState.CONNECTED
    )


@_plants("give beyond a quota", Quotas, "broken_by")
def _breaks_none(quotas: Quotas, usage: Usage, needed: Resources) -> str:
    """No attempt is too many for its namespace."""
    del quotas, usage, needed
    return ""


@_plants("share what is limited", model, "has_place", kinds=("moves",))
def _has_place_anyway(users: dict[str, int], name: str, limits: tuple[tuple[str, int], ...]) -> bool:
    """What is moved to an agent goes beyond its limits of tools and models."""
    del users, name, limits
    return True
