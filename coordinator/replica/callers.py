"""Which clients are likely to send a command soon: those that wait for an answer, or have just had one.

Most clients ask for one thing after the other, and for none before the last is answered (a closed loop:
Schroeder, Wierman, Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006, section 2). Several
of them share an entry if it leaves when all of them have come back, and then they come back together.
"""

from __future__ import annotations


class Callers:
    """Counts them; who they are does not matter, since whoever comes is one less to wait for."""

    def __init__(self) -> None:
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

    def came(self) -> None:
        """A client has sent a command."""
        if self._returning:
            self._returning -= 1
        elif self._late:
            self._late -= 1

    def left(self, commands: int) -> None:
        """So many commands of clients are on their way."""
        self._waiting += commands

    def answered(self, commands: int) -> None:
        """And have been answered."""
        self._waiting -= commands
        self._returning += commands

    def stay_away(self) -> None:
        """An entry has waited for long enough. Who was late then already is not waited for any more."""
        self._late, self._returning = self._returning, 0

    def forget(self) -> None:
        """No answer will come."""
        self._waiting = self._returning = self._late = 0
