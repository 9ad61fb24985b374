"""What the namespaces of waiting tasks may claim of one round: their place in line and their quotas, given
what the round has given or kept for them already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coordinator.core.model import TaskProfile
from coordinator.core.namespaces import NO_QUOTAS
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.shares import Holding, Shares
from coordinator.scheduling.tasks.waiting import NOBODY_ELSE, Owner

QUOTA: Final = "namespace_quota"
"""The reason of tasks whose namespace holds all that it may."""


class Claim:
    """Of one namespace, in one round. `share` is what it has by its weight, what the round gave it included;
    it only grows."""

    __slots__ = ("_account", "_holding", "_shares", "limited", "share")

    def __init__(self, shares: Shares, namespace: str) -> None:
        self._shares = shares
        self._account = account = shares.account(namespace)
        self._holding: Holding | None = None
        self.share = shares.share(account, account.holding)
        self.limited = account.settings.quotas != NO_QUOTAS

    def refused(self, profile: TaskProfile) -> bool:
        """Whether one more such attempt would break a quota."""
        holding = self._holding or self._account.holding
        return self.limited and bool(
            self._account.settings.quotas.broken_by(holding.usage, profile.requirements.resources)
        )

    def take(self, profile: TaskProfile) -> None:
        """The round has given or kept a place for such a task."""
        if self._holding is None:
            self._holding = self._account.holding.copy()
        self._holding.take(profile.requirements.resources, 1.0)
        self.share = self._shares.share(self._account, self._holding)


class Claims:
    """Of all `owners` of tasks that wait. Where these are of one namespace, nothing is counted but for its
    quotas."""

    def __init__(self, snapshot: Snapshot, now_s: float, owners: Iterable[Owner]) -> None:
        snapshot.shares.advance(now_s)
        self._shares = snapshot.shares
        self._claims: dict[str, Claim] = {}
        names = {owner.namespace for owner in owners}
        quotas = [snapshot.shares.account(name).settings.quotas for name in names]
        self.counted = len(names) > 1 or any(one != NO_QUOTAS for one in quotas)
        """Whether any of it makes a difference."""

    def of(self, owner: Owner = NOBODY_ELSE) -> Claim:
        """That of the owner's namespace."""
        claim = self._claims.get(owner.namespace)
        if claim is None:
            claim = self._claims[owner.namespace] = Claim(self._shares, owner.namespace)
        return claim

    def share(self, owner: Owner) -> float:
        """What counts in line."""
        return self.of(owner).share if self.counted else 0.0

    def refused(self, owner: Owner, profile: TaskProfile) -> bool:
        """Whether one more such attempt would break a quota."""
        return self.counted and self.of(owner).refused(profile)

    def take(self, owner: Owner, profile: TaskProfile) -> None:
        """The round has given or kept a place for such a task."""
        if self.counted:
            self.of(owner).take(profile)
