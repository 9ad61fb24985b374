"""Placement policies by name: those that weigh costs (`weights`), and the simple ones, which see nothing of
what tasks last and are the baselines. Others come as plug-ins (`coordinator/plugins.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coordinator.errors import InvalidRequest
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.costs.objectives import FirstFree, LeastLoaded, Objective, PowerOfTwo, RoundRobin
from coordinator.scheduling.costs.weights import BUILT_IN, Policy

Simple = Callable[[Ledger, int], Objective]
"""Makes the objective of one round, given its ledger and the row whose turn it is."""

Policies = Mapping[str, Policy | Simple]

DEFAULT: Final = "balanced"

SIMPLE: Final[Mapping[str, Simple]] = {
    "least-loaded": LeastLoaded,
    "round-robin": RoundRobin,
    "power-of-two": PowerOfTwo,
    "fifo": FirstFree,
}

ALL: Final[Policies] = {**BUILT_IN, **SIMPLE}

NAMES: Final = tuple(ALL)


def check_of_work(name: str, known: Policies = ALL) -> None:
    """That a DAG or namespace may name this policy, "" being none. Raises InvalidRequest."""
    if name and not isinstance(policy(name, known), Policy):
        raise InvalidRequest(
            f"{name!r} is a policy of the whole cluster: a DAG or namespace may have one of "
            f"{', '.join(one for one, found in known.items() if isinstance(found, Policy))}",
            value=name,
        )


def policy_of(name: str, known: Policies, cluster: Policy) -> Policy:
    """The policy of work that names one, "" if it does not: the cluster's where this node does not have it,
    as it may come from a node that had more."""
    found = known.get(name)
    return found if isinstance(found, Policy) else cluster


def policy(name: str, known: Policies = ALL) -> Policy | Simple:
    """Raises InvalidRequest for a name that is not known."""
    found = known.get(name)
    if found is None:
        raise InvalidRequest(
            f"there is no placement policy {name!r}: give one of {', '.join(known)}", value=name
        )
    return found
