"""What must hold of configurations: a leader has one that is not committed at the most, each differs from
the one before it by one voter (Ongaro's thesis, section 4.1), and nobody speaks for a member but the data
folder that it is bound to."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.consensus.journal import Journal
from coordinator.consensus.membership import Configuration, Membership, founding
from coordinator.consensus.messages import AppendEntries


class MembershipChecks:
    """Fed with what leaders send. `broken` is told of each rule that is broken."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        self._broken = broken
        self._seen: dict[tuple[int, int], Configuration] = {}
        self._newest = founding(Membership())

    @property
    def changes(self) -> int:
        """How many configurations there were, committed or not, beside the first."""
        return max(0, len(self._seen) - 1)

    def sent(self, leader: str, message: AppendEntries, journal: Journal) -> None:
        """A leader with this log has handed a message to its links."""
        newest = journal.configuration
        if newest.place not in self._seen:
            self._seen[newest.place] = newest
            self._newest = max(self._newest, newest, key=lambda one: one.place)
            if newest.index > journal.base.index:
                self._compare(leader, journal.configuration_at(newest.index - 1).membership, newest)
        if newest.term == message.term:
            self._was_allowed(leader, message, journal)

    def speaks(self, node: str, incarnation: str, term: int) -> None:
        """This data folder votes or acknowledges as that node in that term. What later ones say does not
        count: a leader that has lost its lead and does not know it yet may have let it in."""
        newest = self._newest_up_to(term)
        member = newest.membership.get(node)
        if member is not None and member.incarnation not in ("", incarnation):
            self._broken(
                f"{node} speaks with folder {incarnation} in term {term}, and is bound to "
                f"{member.incarnation} by entry {newest.index}"
            )

    def may_decide(self, index: int, journal: Journal) -> list[set[str]]:
        """The voters of every configuration by which the entry may have been committed, as the log of
        one who applied it has it: the one in force there, or a later one."""
        there = journal.configuration_at(index)
        later = [one for one in (journal.configuration, *self._seen.values()) if one.index > there.index]
        return [{voter.id for voter in one.membership.voters} for one in (there, *later)]

    def _newest_up_to(self, term: int) -> Configuration:
        if self._newest.term <= term:
            return self._newest
        earlier = (one for one in self._seen.values() if one.term <= term)
        return max(earlier, key=lambda one: one.place, default=founding(Membership()))

    def _was_allowed(self, leader: str, message: AppendEntries, journal: Journal) -> None:
        """The newest configuration is the leader's own."""
        newest = journal.configuration
        before = journal.configuration_at(newest.index - 1)
        if message.commit < before.index:
            self._broken(
                f"{leader} leads term {message.term} with two configurations that are not committed, at "
                f"{before.index} and {newest.index}; committed is {message.commit}"
            )
        if journal.term_at(message.commit) not in (None, message.term):
            self._broken(
                f"{leader} changes the membership with entry {newest.index}, and has committed nothing of "
                f"its term {message.term} yet"
            )

    def _compare(self, leader: str, before: Membership, newest: Configuration) -> None:
        after = newest.membership
        old = {voter.id: voter.incarnation for voter in before.voters}
        new = {voter.id: voter.incarnation for voter in after.voters}
        if len(old.keys() ^ new.keys()) > 1:
            self._broken(
                f"{leader} changes more than one voter with entry {newest.index}: {sorted(old)} become "
                f"{sorted(new)}"
            )
        for voter in sorted(old.keys() & new.keys()):
            if old[voter] not in ("", new[voter]):
                self._broken(f"{leader} gives voter {voter} another data folder with entry {newest.index}")
