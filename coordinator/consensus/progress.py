"""The leader's view of one follower's log. Pure: messages that were sent and answers that came in, the next
thing to send out.

The three stages are those of etcd's raft (`tracker/progress.go`, its design document "Progress"): a
follower whose log is not known is *probed* with one message at a time, one that is known to match gets a
*replicated* stream with a bounded window, and one that needs entries that are gone gets a *snapshot*.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto


class Stage(Enum):
    """How a follower is being fed."""

    PROBE = auto()
    REPLICATE = auto()
    SNAPSHOT = auto()


class Progress:
    """`match` is the highest index known to be equal and durable there, `next` the first index to send.

    A refusal or success moves the stage only if it answers a message of the present probe or stream: what
    was sent before it says nothing about it. A probe is known by the first sequence number that was sent
    in it, and ends at a success and at an interruption.
    """

    def __init__(self, next_index: int, *, window_messages: int, window_bytes: int) -> None:
        self.stage = Stage.PROBE
        self.match = 0
        self.next = next_index
        self._window_messages = window_messages
        self._window_bytes = window_bytes
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._since: int | None = None
        """Sequence number of the first message of the present probe or stream; None while none was sent."""
        self._snapshot_index = 0

    @property
    def in_flight(self) -> int:
        """Messages with entries that are not acknowledged."""
        return len(self._in_flight)

    def may_send(self) -> bool:
        """Whether entries from `next` on may go out now."""
        if self.stage is Stage.PROBE:
            return self._since is None
        return (
            self.stage is Stage.REPLICATE
            and len(self._in_flight) < self._window_messages
            and self._in_flight_bytes < self._window_bytes
        )

    def sent(self, seq: int, entries: int, size: int) -> None:
        """A message with the `entries` from `next` on, `size` bytes of payload, has left in round `seq`."""
        if self._since is None:
            self._since = seq
        if self.stage is Stage.REPLICATE and entries:
            self.next += entries
            self._in_flight.append((self.next - 1, size))
            self._in_flight_bytes += size

    def acknowledged(self, seq: int, match: int) -> None:
        """The follower's log is equal and durable up to `match`, said in answer to round `seq`."""
        self.match = max(self.match, match)
        if self.stage is Stage.PROBE and self._answers_present(seq):
            self._enter(Stage.REPLICATE)
        self._settle()

    def refused(self, seq: int, prev_index: int, next_hint: int) -> bool:
        """The follower has no entry at `prev_index` that matches; `next_hint` is the highest place where
        it may. Returns whether that was news: if not, it answered something that was sent before the
        present probe or stream."""
        if self.stage is Stage.SNAPSHOT or not self._answers_present(seq):
            return False
        if self.stage is Stage.PROBE and prev_index != self.next - 1:
            return False
        if prev_index <= self.match:
            # It has lost what it acknowledged (a wiped disk), and counts for nothing until it has it again.
            self.match = 0
        self._enter(Stage.PROBE)
        self.next = max(self.match + 1, min(next_hint, prev_index))
        return True

    def interrupted(self) -> None:
        """The connection was lost or made anew: what was in flight may be gone."""
        if self.stage is Stage.REPLICATE:
            self.next = self.match + 1
        self._enter(Stage.PROBE)

    def begin_snapshot(self, index: int) -> None:
        """A snapshot of the state at `index` is being sent."""
        self._enter(Stage.SNAPSHOT)
        self._snapshot_index = index

    def end_snapshot(self, *, installed: bool) -> None:
        """It has arrived, or will not."""
        if self.stage is not Stage.SNAPSHOT:
            return
        self._enter(Stage.PROBE)
        if installed:
            # All of it is committed, so counting it as durable there can commit nothing new.
            self.match = max(self.match, self._snapshot_index)
            self.next = max(self.next, self.match + 1)

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self._since = None
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def _answers_present(self, seq: int) -> bool:
        return self._since is not None and seq >= self._since

    def _settle(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.match:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        self.next = max(self.next, self.match + 1)
