"""The configurations that a log holds, and the one at its base. Pure."""

from __future__ import annotations

from coordinator.consensus.membership import Configuration


class Configurations:
    """Configurations by index. The oldest is the one that is in force at the log's base; there are few of
    them."""

    def __init__(self, at_base: Configuration) -> None:
        self._all = [at_base]
        self.newest = at_base

    @property
    def oldest(self) -> Configuration:
        """The one in force at the log's base."""
        return self._all[0]

    def add(self, configuration: Configuration) -> None:
        """The log has a new entry with a configuration."""
        self._all.append(configuration)
        self.newest = configuration

    def at(self, index: int) -> Configuration:
        """The one in force at an entry that the log holds, or at its base."""
        return next(one for one in reversed(self._all) if one.index <= index or one is self._all[0])

    def truncate_from(self, index: int) -> None:
        """Entries from `index` on are gone: what they had replaced is in force again."""
        self._all = [self._all[0], *(one for one in self._all[1:] if one.index < index)]
        self.newest = self._all[-1]

    def compact_to(self, index: int) -> None:
        """The base is now `index`."""
        at_base = self.at(index)
        self._all = [at_base, *(one for one in self._all if one.index > index)]

    def ever_named(self, member_id: str, incarnation: str) -> bool:
        """Whether one of them binds the member to that incarnation."""
        return any(
            member.id == member_id and member.incarnation == incarnation
            for configuration in self._all
            for member in configuration.membership
        )
