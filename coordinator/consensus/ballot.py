"""The count of one election round."""

from __future__ import annotations

from collections.abc import Iterable


def majority(members: int) -> int:
    """How many of `members` nodes make a majority."""
    return members // 2 + 1


class Ballot:
    """Votes by voter: an answer that arrives twice counts once, and one from a stranger not at all."""

    def __init__(self, voters: Iterable[str]) -> None:
        self._voters = frozenset(voters)
        self._granted: dict[str, bool] = {}

    def record(self, voter: str, granted: bool) -> None:
        """Take a voter's first answer."""
        if voter in self._voters:
            self._granted.setdefault(voter, granted)

    @property
    def unanswered(self) -> frozenset[str]:
        """The voters that have not been heard."""
        return self._voters - self._granted.keys()

    @property
    def won(self) -> bool:
        """A majority said yes."""
        return sum(self._granted.values()) >= majority(len(self._voters))

    @property
    def lost(self) -> bool:
        """So many said no that there can be no majority any more."""
        refused = len(self._granted) - sum(self._granted.values())
        return len(self._voters) - refused < majority(len(self._voters))
