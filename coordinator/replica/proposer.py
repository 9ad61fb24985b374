"""Group commit: commands that arrive while entries are in flight travel together in the next one.

An entry leaves at the end of the event loop's iteration in which its first command came, or after a wait for
others: where they come faster than this node can make entries (`gathering`), where ends are due, or where
clients are likely to come back (`callers`). If `window` entries are on their way already, it leaves when one
of them has been applied, and carries all that has come meanwhile. Before it does, the leader may add what
follows from it (`before_entry`), and sees to its own books once it has left (`after_entry`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from coordinator.consensus.port import Consensus
from coordinator.core.commands import FORMAT, Command, Report
from coordinator.core.outcome import Refusal, Reply
from coordinator.defects import Defects
from coordinator.errors import CoordinatorError, LimitExceeded, NotLeader, OutcomeUnknown, QueueFull
from coordinator.replica.callers import Callers
from coordinator.replica.clock import Clock
from coordinator.replica.gathering import ENOUGH, Gathering
from coordinator.replica.refused import raise_refusal
from coordinator.stages import Stages


class _Frame(msgspec.Struct, array_like=True):
    """`core.commands.Entry` with its commands encoded already."""

    format: int
    at_ms: int
    commands: list[msgspec.Raw]


class _Waiting(NamedTuple):
    command: msgspec.Raw
    size: int
    reply: asyncio.Future[Reply]
    tells: bool
    """Whether an agent tells something by it, which waits for no answer."""
    asked: bool
    """Whether a client waits for the answer, and is likely to send another command then."""


class _InFlight(NamedTuple):
    left_s: float
    """By the clock of the loop,"""
    proposed_s: float
    """and by the exact one."""
    term: int
    replies: list[asyncio.Future[Reply]]
    asked: int
    """How many of them clients wait for."""


_encode = msgspec.msgpack.Encoder().encode
_FRAME_OVERHEAD = 64


class Proposer:
    """Turns commands into entries, and the entries' outcomes into replies. Bounded: beyond `max_commands` or
    `max_bytes` waiting, a command is refused at once. What fails while proposing is vital to `defects`: who
    can record nothing must not lead. `now` is an exact clock, in seconds. Belongs to the running loop."""

    def __init__(
        self,
        consensus: Consensus,
        clock: Clock,
        defects: Defects,
        *,
        max_commands: int,
        max_bytes: int,
        max_entry_bytes: int,
        gather_s: float,
        window: int = 4,
        stages: Stages | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        # uvloop's clock counts milliseconds.
        self._now = now or self._loop.time
        self._consensus = consensus
        self._clock = clock
        self._defects = defects
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        # Half of the queue, so that whoever waits for `room` then finds enough of it.
        self._max_entry_bytes = min(max_entry_bytes - _FRAME_OVERHEAD, max_bytes // 2)
        self._window = window
        self._stages = stages or Stages()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._flush_scheduled = False
        self._flushing = False
        self._refused = False
        """Whether the log takes nothing for a moment."""
        self._asked = False
        """Whether an entry is to leave though nothing waits."""
        self._gathering = Gathering(gather_s)
        self._callers = Callers()
        self._held: asyncio.TimerHandle | None = None
        self._awaits_ends = False
        self._wait_s = 0.0
        self.ends_are_due: Callable[[], bool] = _never
        """Whether agents are expected to tell of ends at any moment."""
        self.before_entry: Callable[[], None] = _nothing
        """Called when an entry is about to leave; what it submits travels along."""
        self.after_entry: Callable[[], None] = _nothing
        """Called once it has left, or none was to."""
        self._left: asyncio.Event | None = None
        """Set when the queue has become shorter, and there only while somebody waits for that."""

    def submit(self, command: Command, *, asked: bool = False) -> asyncio.Future[Reply]:
        """Queue a command; the future gives the machine's reply, be it a refusal. `asked` says that a client
        waits for it, and is likely to send another command then.

        Raises:
            QueueFull: too much is waiting already. LimitExceeded: the command alone is larger than an
            entry may be. The future fails with NotLeader if the command was never proposed, with
            OutcomeUnknown if leadership was lost after.
        """
        raw = msgspec.Raw(_encode(command))
        size = len(raw)
        if size > self._max_entry_bytes:
            raise LimitExceeded(
                f"the command takes {size} bytes, an entry of the log at most {self._max_entry_bytes}; "
                "send large DAGs in parts and large payloads by reference",
                setting="raft.max_entry_bytes",
                limit=self._max_entry_bytes,
                value=size,
            )
        if len(self._waiting) >= self._max_commands or self._waiting_bytes + size > self._max_bytes:
            raise QueueFull(
                f"{len(self._waiting)} commands ({self._waiting_bytes} bytes) wait for their commit; retry",
                retry_after_ms=50,
                setting="limits.max_queued_commands",
                limit=self._max_commands,
            )
        reply: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append(_Waiting(raw, size, reply, isinstance(command, Report), asked))
        if asked:
            self._callers.came(self._now())
        self._waiting_bytes += size
        if not self._flushing:
            self._gathering.came(self._loop.time())
        self._schedule()
        return reply

    def ask(self) -> None:
        """Let an entry leave soon, though it be for what `before_entry` has to add alone."""
        self._asked = True
        self._schedule()

    async def call(self, command: Command) -> Reply:
        """As `submit`, and raise the machine's refusal as the error that it names."""
        reply = await self.submit(command)
        if isinstance(reply, Refusal):
            raise_refusal(reply)
        return reply

    async def room(self) -> None:
        """Return once the queue is at most half full: after QueueFull, the time to try again."""
        while 2 * len(self._waiting) > self._max_commands or 2 * self._waiting_bytes > self._max_bytes:
            self._left = self._left or asyncio.Event()
            await self._left.wait()

    def applied(self, index: int, term: int, replies: list[Reply]) -> None:
        """The entry at `index` has been applied: answer those who wait for it."""
        flight = self._in_flight.pop(index, None)
        if flight is None:
            return
        self._callers.answered(flight.asked, self._now() - flight.proposed_s)
        self._gathering.committed(self._loop.time() - flight.left_s)
        if flight.term != term:
            self._fail(flight.replies, OutcomeUnknown("another leader's entry took this command's place"))
        else:
            for future, reply in zip(flight.replies, replies, strict=True):
                if not future.done():
                    future.set_result(reply)
        if self._waiting or self._asked:
            self._schedule()

    def revoke(self, error: NotLeader) -> None:
        """This node no longer leads: what is in flight may yet be committed by another, what waits will
        not be."""
        self.before_entry = self.after_entry = _nothing
        self.ends_are_due = _never
        self._asked = False
        in_flight = [future for flight in self._in_flight.values() for future in flight.replies]
        self._in_flight.clear()
        self._callers.forget()
        waiting = [one.reply for one in self._waiting]
        self._waiting.clear()
        self._waiting_bytes = 0
        self._let_in()
        self._fail(
            in_flight,
            OutcomeUnknown(
                "leadership was lost before the command was known to be committed; retry with the same id",
                retry_after_ms=50,
                leader_id=error.leader_id,
                leader_address=error.leader_address,
            ),
        )
        self._fail(waiting, error)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and no entry is on its way."""
        return not self._waiting and not self._in_flight

    @property
    def waiting(self) -> int:
        """Commands not yet in an entry."""
        return len(self._waiting)

    def _schedule(self) -> None:
        """Find out at the end of this turn whether an entry leaves then."""
        if self._flush_scheduled or (self._held is None and len(self._in_flight) >= self._window):
            return
        if self._held is None:
            self._wait_s = self._gathering.wait_s
        self._flush_scheduled = True
        self._loop.call_soon(self._consider)

    def _consider(self) -> None:
        """Let the entry leave, unless it is worth while to wait for more."""
        patience_s = 0.0
        with self._defects.vital("proposing"):
            patience_s = self._patience_s()
        if patience_s <= 0:
            self._flush()
            return
        self._flush_scheduled = False
        if self._held is None:
            self._held = self._loop.call_later(patience_s, self._waited)

    def _waited(self) -> None:
        """It has waited for long enough."""
        if self._clients_wait:
            self._callers.stay_away()
        self._flush()

    def _patience_s(self) -> float:
        """How long the entry may wait: if agents tell something by all of it, for ends that are due, until
        there are none; if clients ask for some of it, for others, while they are dense and expected."""
        tells = bool(self._waiting) and all(one.tells for one in self._waiting)
        due = tells and self.ends_are_due()
        all_told = self._awaits_ends and tells and not due
        self._awaits_ends = due
        if all_told or self._is_worth_it():
            return 0.0
        if due:
            return self._gathering.worth_s
        if self._clients_wait:
            dense = self._wait_s > 0 or self._callers.are_dense
            return self._gathering.worth_s if dense and self._callers.are_expected else 0.0
        return self._wait_s

    @property
    def _clients_wait(self) -> bool:
        """Whether a client waits for what comes of the next entry."""
        return any(one.asked for one in self._waiting)

    def _is_worth_it(self) -> bool:
        """Whether an entry of what waits needs no more."""
        return len(self._waiting) >= ENOUGH or self._waiting_bytes >= self._max_entry_bytes

    def _flush(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None
        self._awaits_ends = False
        self._asked = False
        began_s = self._now()
        with self._defects.vital("proposing"):
            try:
                self._leave()
            finally:
                self._callers.made(began_s, self._now())
                self._flush_scheduled = self._refused
            # Some may have come, and entries may have been applied, while this one left.
            if self._waiting or (self._asked and not self._in_flight):
                self._schedule()

    def _leave(self) -> None:
        self._flushing = True
        try:
            self.before_entry()
        finally:
            self._flushing = False
        taken = True
        while taken and self._waiting and len(self._in_flight) < self._window:
            taken = self._propose(self._take())
        self._consensus.push()
        self.after_entry()

    def _propose(self, batch: list[_Waiting]) -> bool:
        """Make an entry of these; False if the log takes nothing for the moment."""
        replies = [one.reply for one in batch]
        try:
            with self._stages["propose"]:
                entry = _Frame(FORMAT, self._clock.now_ms(), [one.command for one in batch])
                index, term = self._consensus.propose(_encode(entry))
        except QueueFull as error:
            self._wait_with(batch, error.retry_after_ms / 1000)
            return False
        except CoordinatorError as error:
            self._fail(replies, error)
        except Exception as defect:
            unknown = OutcomeUnknown(f"proposing failed unexpectedly: {defect!r}; retry with the same id")
            self._fail(replies, unknown)
            raise
        else:
            asked = sum(one.asked for one in batch)
            self._callers.left(asked)
            self._in_flight[index] = _InFlight(self._loop.time(), self._now(), term, replies, asked)
        return True

    def _wait_with(self, batch: list[_Waiting], pause_s: float) -> None:
        """The log takes nothing for the moment, perhaps because leadership is being handed over: these come
        first when it does. If another leads by then, `revoke` tells them."""
        self._waiting.extendleft(reversed(batch))
        self._waiting_bytes += sum(one.size for one in batch)
        self._refused = True
        self._loop.call_later(pause_s, self._try_again)

    def _try_again(self) -> None:
        self._refused = False
        self._flush()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        room = self._max_entry_bytes
        while self._waiting and (not batch or self._waiting[0].size <= room):
            one = self._waiting.popleft()
            batch.append(one)
            room -= one.size
            self._waiting_bytes -= one.size
        self._let_in()
        return batch

    def _let_in(self) -> None:
        if self._left is not None:
            self._left.set()
            self._left = None

    @staticmethod
    def _fail(futures: list[asyncio.Future[Reply]], error: CoordinatorError) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(error)
                # Whoever asked may be gone by now; nobody else is to blame for not looking.
                future.exception()


def _never() -> bool:
    """This node does not lead."""
    return False


def _nothing() -> None:
    """This node does not lead."""
