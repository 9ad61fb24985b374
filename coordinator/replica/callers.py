"""Which clients are likely to send a command soon: those that wait for an answer, or have just had one.

Most clients ask for one thing after the other, and for none before the last is answered (a closed loop:
Schroeder, Wierman, Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006, section 2). Several
of them share an entry if it leaves when all of them have come back, and then they come back together.
"""

from __future__ import annotations

from coordinator.replica.gathering import Pace


class Callers:
    """Counts them; who they are does not matter, since whoever comes is one less to wait for. All times are
    seconds of a clock that knows less than milliseconds."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._waiting = 0
        """Those whose commands are on their way."""
        self._returning = 0
        """Those that have been answered, and may come back."""
        self._late = 0
        """Those of whom that was so when an entry had waited for long enough."""

    @property
    def are_expected(self) -> bool:
        """Whether there is anybody to wait for."""
        return self._waiting > 0 or self._returning > 0 or self._late > 0

    @property
    def are_dense(self) -> bool:
        """Whether they come so closely that more would come within a commit, were no entry made meanwhile."""
        return self._pace.is_dense

    def came(self, now_s: float) -> None:
        """A client has sent a command."""
        self._pace.came(now_s)
        if self._returning:
            self._returning -= 1
        elif self._late:
            self._late -= 1

    def left(self, commands: int) -> None:
        """So many commands of clients are on their way."""
        self._waiting += commands

    def made(self, began_s: float, ended_s: float) -> None:
        """An entry has been made."""
        self._pace.made(began_s, ended_s)

    def answered(self, commands: int, took_s: float) -> None:
        """So many have been answered, with an entry that took so long."""
        self._pace.committed(took_s)
        self._waiting -= commands
        self._returning += commands

    def stay_away(self) -> None:
        """An entry has waited for long enough. Who was late then already is not waited for any more."""
        self._late, self._returning = self._returning, 0

    def forget(self) -> None:
        """No answer will come."""
        self._waiting = self._returning = self._late = 0
