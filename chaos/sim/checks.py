"""What must hold of a cluster, looked at while it runs: after every applied entry, at every change of role,
and at intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import combinations
from typing import Final

import msgspec

from chaos.sim.disk import Disk
from chaos.sim.host_loop import HostLoop
from chaos.sim.protocol_checks import ProtocolChecks
from chaos.sim.trace import Trace
from chaos.sim.witness import Witness
from coordinator.consensus.journal import Journal
from coordinator.consensus.messages import AppendEntries, Message
from coordinator.consensus.port import Role, Status
from coordinator.core import invariants
from coordinator.core.commands import Entry
from coordinator.core.lifecycle import TERMINAL
from coordinator.core.model import AttemptOutcome, DagState, TaskRecord, TaskState
from coordinator.core.outcome import DagEvent, Outcome, Table, TaskEvent
from coordinator.errors import LogCorrupt
from coordinator.replica.node import Node

_decode = msgspec.msgpack.Decoder(Entry).decode

_WATCHED_EVERY: Final = 4
"""Every so many entries a node's state is compared with what it was."""

_RUNS: Final = 1_000
"""Logs have fewer runs of one term."""


class Checks:
    """Notes what is broken with the witness. One for all nodes of a world."""

    def __init__(self, witness: Witness, trace: Trace, disks: Mapping[str, Disk]) -> None:
        self.entries = 0
        """Applied, by all nodes together."""
        self.highest_index = 0
        self.commands: Counter[str] = Counter()
        """Applied, by kind."""
        self._witness = witness
        self._trace = trace
        self._protocol = ProtocolChecks(disks, self._broken)
        self._leaders: dict[int, str] = {}
        self._terms: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self._sound: set[int] = set()
        self._ended: dict[tuple[str, str], tuple[TaskState, int]] = {}
        self._results: dict[bytes, int] = {}
        self._attempts: dict[bytes, list[AttemptOutcome]] = {}
        self._marks: dict[str, tuple[HostLoop, int, int, int]] = {}

    def observe(self, node: Node, process: HostLoop) -> None:
        """Look at everything that a new node does, from here on."""
        applier, me = node.applier, process.name
        watch = invariants.Watch()
        tell_role, tell_outcome = applier.on_role_change, applier.on_outcome

        def on_role(role: Role, term: int, leader: str | None) -> None:
            self._trace.note(me, f"{role} in term {term}, leader {leader}")
            if role is Role.LEADER and self._leaders.setdefault(term, me) != me:
                self._broken(f"{self._leaders[term]} and {me} both lead term {term}")
            if role is Role.LEADER:
                consensus = node.consensus
                self._protocol.begins_to_lead(me, term, consensus.status().commit_index, consensus.journal)
            tell_role(role, term, leader)

        def on_outcome(index: int, term: int, outcome: Outcome) -> None:
            tell_outcome(index, term, outcome)
            self._applied(node, me, index, term, outcome)
            if index == applier.applied.index and index % _WATCHED_EVERY == 0:
                for found in watch.violations(applier.state):
                    self._broken(f"{me} at {index}: {found}")

        applier.on_role_change, applier.on_outcome = on_role, on_outcome
        node.defects.told = lambda work, error: self._broken(
            f"{me} has survived a defect in {work}: {error!r}"
        )
        self._watch_reads(node, me)

    def sent(self, node: Node, target: str, message: Message) -> None:
        """A node sends a message to another."""
        me, consensus = node.config.node_id, node.consensus
        self._protocol.sent(me, target, message, consensus.journal)
        if isinstance(message, AppendEntries):
            self._protocol.believes(me, message.term, consensus.peers())

    def wiped(self, node: str) -> None:
        """A node is about to lose its disk."""
        self._protocol.wiped(node)

    @property
    def configurations(self) -> int:
        """How often the membership was changed, or nearly."""
        return self._protocol.membership.changes

    @property
    def attempts(self) -> Counter[str]:
        """How the attempts of tasks ended."""
        return Counter(outcome.name for outcomes in self._attempts.values() for outcome in outcomes)

    @property
    def last_term_led(self) -> int:
        """The newest term in which there was a leader."""
        return max(self._leaders, default=0)

    @property
    def last_leader(self) -> str | None:
        """Who led that term."""
        return self._leaders.get(self.last_term_led)

    def look(self, processes: Mapping[str, tuple[Node, HostLoop]]) -> None:
        """Look at all nodes that are up, at once."""
        for me, (node, process) in processes.items():
            status = node.consensus.status()
            before = self._marks.get(me)
            now = (process, status.term, status.commit_index, status.applied.index)
            self._marks[me] = now
            if (
                before is not None
                and before[0] is process
                and any(a > b for a, b in zip(before[1:], now[1:], strict=True))
            ):
                self._broken(f"{me} went back: term, commit, applied {before[1:]} and then {now[1:]}")
            self._same_digest(me, status.applied.index, status.applied.digest)
            if status.counters.get("frames_refused"):
                self._broken(f"{me} could not read what another node sent, which arrives as it was sent")
        self._logs_match(processes)

    def _watch_reads(self, node: Node, me: str) -> None:
        """Whoever asks where a read may begin is told of a place that no commit before it lies behind."""
        ask = node.consensus.read_index

        async def read_index() -> int:
            committed = self.highest_index
            index = await ask()
            if index < committed:
                self._broken(f"{me} serves a read at {index}, asked for when {committed} was applied")
            return index

        node.consensus.read_index = read_index  # type: ignore[method-assign]

    def _applied(self, node: Node, me: str, index: int, term: int, outcome: Outcome) -> None:
        self.entries += 1
        self.highest_index = max(self.highest_index, index)
        if index not in self._terms:
            self._protocol.committed(index, term, node.consensus.journal)
            self._count(node.consensus.journal, index)
        if self._terms.setdefault(index, term) != term:
            self._broken(f"{me} applied entry {index} of term {term}, others of term {self._terms[index]}")
        for event in outcome.events:
            if isinstance(event, TaskEvent) and event.state in TERMINAL:
                self._task_ended(event, index)
            elif isinstance(event, DagEvent) and event.state not in (DagState.STAGING, DagState.RUNNING):
                self._witness.ended.add(event.dag_id)
        self._look_at_writes(outcome, index)
        applied = node.applier.applied
        if applied.index != index:
            return
        self._trace.note(me, f"applied {index} of term {term}: {applied.digest.hex()}")
        self._same_digest(me, index, applied.digest)
        if index not in self._sound:
            # Its digest is the same on every node, so one of them is enough.
            self._sound.add(index)
            for found in invariants.violations(node.applier.state):
                self._broken(f"at {index}: {found}")

    def _look_at_writes(self, outcome: Outcome, index: int) -> None:
        for write in outcome.writes:
            if isinstance(write.value, TaskRecord):
                self._attempts[write.key] = [attempt.outcome for attempt in write.value.attempts]
            if write.table is Table.RESULT and write.value is not None:
                first = self._results.setdefault(write.key, index)
                if first != index:
                    self._broken(f"a result of {write.key.hex()} recorded at {first} and again at {index}")

    def _count(self, journal: Journal, index: int) -> None:
        # It may be damaged already, which is for the node to find.
        with suppress(LogCorrupt):
            for entry in journal.read(index, entries=1, size=1):
                if entry.payload:
                    commands = _decode(entry.payload).commands
                    self.commands.update(type(command).__name__ for command in commands)

    def _task_ended(self, event: TaskEvent, index: int) -> None:
        ended = (event.state, index)
        task = event.dag_id, event.task_id
        if self._ended.setdefault(task, ended) != ended:
            self._broken(f"{event.dag_id}/{event.task_id} ended as {self._ended[task]} and as {ended}")
        elif event.state is TaskState.COMPLETED:
            self._witness.completed(*task, event.attempt, event.agent)

    def _same_digest(self, me: str, index: int, digest: bytes) -> None:
        if self._digests.setdefault(index, digest) != digest:
            known = self._digests[index].hex()
            self._broken(f"{me} has digest {digest.hex()} at {index}, another node had {known}")

    def _logs_match(self, processes: Mapping[str, tuple[Node, HostLoop]]) -> None:
        """Two logs with an entry of the same index and term are the same up to there (Raft, 5.3)."""
        journals = {me: node.consensus.journal for me, (node, _) in processes.items()}
        for (one, ours), (other, theirs) in combinations(journals.items(), 2):
            first = max(ours.base.index, theirs.base.index)
            last = min(ours.last.index, theirs.last.index)
            if ours.runs(first, last, _RUNS) == theirs.runs(first, last, _RUNS):
                continue
            agreed = False
            for index in range(last, first - 1, -1):
                same = ours.term_at(index) == theirs.term_at(index)
                if agreed and not same:
                    self._broken(
                        f"the logs of {one} and {other} differ at {index}, below an entry they share"
                    )
                agreed = agreed or same

    def _broken(self, what: str) -> None:
        if what not in self._witness.violations:
            self._witness.break_promise(what)
            self._trace.note("checks", what)


def unequal(statuses: Iterable[Status]) -> str:
    """How nodes differ in what they have applied; empty if they do not."""
    stands = {status.id: f"{status.applied.index}:{status.applied.digest.hex()[:8]}" for status in statuses}
    return "" if len(set(stands.values())) <= 1 else ", ".join(f"{me} {at}" for me, at in stands.items())
