"""What namespaces have had of the cluster, and who is entitled to more (E8).

The share of a namespace is its *dominant* one: of slots, cores, memory or GPU memory, that of which it holds
the largest part (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011). What it holds now and what it held
in the recent past (decayed, as Slurm's fair-share does) count together, by weight, the past the more the
fewer slots there are: with it namespaces take turns also where there is a single slot. Whoever comes after a
pause catches up for a while, not for ever.

Quotas are bounds on what is held. `machine.apply` has the last word on them, and counts live attempts alone;
here an attempt also counts while its agent is told to stop it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np

from coordinator.core.model import Resources, TaskProfile
from coordinator.core.namespaces import TAKEN, NamespaceRecord, Usage
from coordinator.scheduling.agents.rows import RESOURCE_FIELDS
from coordinator.scheduling.agents.table import AgentTable

HALF_LIFE_S: Final = 30.0
"""What a namespace had so long ago counts half."""

PAST_COUNTS: Final = 16.0
"""The past counts as the present does, and by so many slots of all more: what few slots cannot be divided
into at once they can in time."""

SLOT_S: Final = 0.02
"""An attempt in the queue of its agent that is expected to last less counts for that part of a slot only."""

ACCOUNTS_KEPT: Final = 2_000
"""Beyond, accounts of namespaces that hold nothing and have no settings are forgotten."""

_COLUMNS: Final = tuple(RESOURCE_FIELDS.index(name) for name in TAKEN)
_TINY: Final = 1e-9


class Holding(msgspec.Struct):
    """What is held: the attempts with what they take, and the `slots` that they count for."""

    usage: Usage
    slots: float = 0.0

    def take(self, resources: Resources, slots: float, times: int = 1) -> None:
        """One attempt more; with `times` -1, one less."""
        self.usage.take(resources, times)
        # Floats do not add up exactly: who holds nothing must have no share.
        self.slots = self.slots + times * slots if self.usage.attempts else 0.0

    def copy(self) -> Holding:
        """Another one, for a plan."""
        return Holding(msgspec.structs.replace(self.usage), self.slots)


class Account(msgspec.Struct):
    """Of one namespace; `had` is the decayed mean of its share until `settled_s`."""

    settings: NamespaceRecord
    holding: Holding
    had: float = 0.0
    settled_s: float = 0.0


class _Held(NamedTuple):
    """An attempt, as it was counted."""

    account: Account
    resources: Resources
    slots: float


class Shares:
    """The accounts, kept current as attempts come and go. Time is that of `advance`."""

    def __init__(self, agents: AgentTable) -> None:
        self._agents = agents
        self._accounts: dict[str, Account] = {}
        self._held: dict[tuple[int, int], _Held] = {}
        self._now_s = 0.0
        self._whole: tuple[float, ...] = ()
        self._whole_of = -1

    # --- what happens ---------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """It is so late now; a clock that goes back is not believed."""
        self._now_s = max(self._now_s, now_s)

    def set(self, name: str, settings: NamespaceRecord | None) -> None:
        """What an operator has set, None if nothing is any more."""
        self.account(name).settings = settings or NamespaceRecord(name)

    def hold(
        self, namespace: str, key: int, attempt: int, profile: TaskProfile, queued_s: float | None = None
    ) -> None:
        """An agent has been given this attempt: for a slot of its own or, if it is expected to last for
        `queued_s`, into its queue."""
        account = self.account(namespace)
        self._settle(account)
        held = _Held(account, profile.requirements.resources, 1.0 if queued_s is None else slots_of(queued_s))
        account.holding.take(held.resources, held.slots)
        self._held[key, attempt] = held

    def release(self, key: int, attempt: int) -> None:
        """It is with no agent any more. One that was not counted is fine."""
        held = self._held.pop((key, attempt), None)
        if held is not None:
            self._settle(held.account)
            held.account.holding.take(held.resources, held.slots, -1)

    # --- what follows ---------------------------------------------------------------------------------------

    def account(self, namespace: str) -> Account:
        """That of a namespace, which may be new."""
        account = self._accounts.get(namespace)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_KEPT:
                self._forget_idle()
            account = Account(NamespaceRecord(namespace), Holding(Usage()), settled_s=self._now_s)
            self._accounts[namespace] = account
        return account

    def share(self, account: Account, holding: Holding) -> float:
        """By weight, of a namespace that has had what is in its account, and holds so much."""
        self._settle(account)
        slots = self._totals()[0]
        past = 1.0 + PAST_COUNTS / slots if slots else 1.0
        return (self.dominant(holding) + past * account.had) / account.settings.weight

    def holds(self, namespace: str) -> float:
        """The largest part of anything that a namespace holds, 0 to 1."""
        account = self._accounts.get(namespace)
        return 0.0 if account is None else min(self.dominant(account.holding), 1.0)

    def beyond(self, namespace: str, profile: TaskProfile) -> str:
        """The quota that one more attempt of this profile would break, in words; "" if none."""
        account = self._accounts.get(namespace)
        if account is None:
            return ""
        quotas, usage = account.settings.quotas, account.holding.usage
        quota = quotas.broken_by(usage, profile.requirements.resources)
        if not quota:
            return ""
        holds = (
            f"namespace {namespace} holds {getattr(usage, quota):,} of its {getattr(quotas, quota):,} {quota}"
        )
        if quota == "attempts":
            return holds
        return f"{holds}, and the task needs {getattr(profile.requirements.resources, quota):,}"

    def dominant(self, holding: Holding) -> float:
        """The largest part of anything that this is. Queues may make it more than 1."""
        usage, (slots, cores, memory, gpu_memory) = holding.usage, self._totals()
        largest = holding.slots / slots if slots else 0.0
        for amount, whole in (
            (usage.milli_cores, cores),
            (usage.memory_bytes, memory),
            (usage.gpu_memory_bytes, gpu_memory),
        ):
            if amount and whole:
                largest = max(largest, amount / whole)
        return largest

    def _settle(self, account: Account) -> None:
        elapsed_s = self._now_s - account.settled_s
        if elapsed_s > 0:
            kept = 0.5 ** (elapsed_s / HALF_LIFE_S)
            account.had = kept * account.had + (1 - kept) * self.dominant(account.holding)
            account.settled_s = self._now_s

    def _totals(self) -> tuple[float, ...]:
        """Of all agents: slots, and each of `TAKEN`."""
        agents = self._agents
        if self._whole_of != agents.latest_version:
            size = agents.size
            slots = agents.slots[:size][agents.present[:size]].sum()
            amounts = agents.total[:size].astype(np.float64).sum(axis=0)
            self._whole = (float(slots), *(float(amounts[column]) for column in _COLUMNS))
            self._whole_of = agents.latest_version
        return self._whole

    def _forget_idle(self) -> None:
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.holding.usage.attempts or account.settings != NamespaceRecord(name)
        }


def slots_of(seconds: float) -> float:
    """What an attempt counts for that waits in its agent's queue, and is expected to last so long."""
    return min(max(seconds, _TINY) / SLOT_S, 1.0)
