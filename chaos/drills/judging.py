"""What a drill's evidence says of every promise and of the plan's limits. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chaos.checking.history import Operation, Outcome
from chaos.checking.linearizability import Judgement, Verdict
from chaos.checking.promises import Check, diverged
from chaos.drills.incident import Incident, durations, summary
from chaos.drills.lookout import Sighting
from chaos.plan import Limit

_SHOWN = 3


def all_answered(problems: Sequence[str]) -> Check:
    """Every call got its answer, with the SDK's retries."""
    found = "; ".join(problems[:_SHOWN]) or "all answered"
    return Check("no client call failed", not problems, f"{len(problems)}: {found}" if problems else found)


def never_diverged(sightings: Sequence[Sighting]) -> Check:
    """No two nodes were ever seen at the same entry with different digests."""
    index = diverged(seen.node for seen in sightings)
    found = f"{len(sightings)} looks" if index is None else f"different states at entry {index}"
    return Check("nodes at the same entry always had the same state", index is None, found)


def one_leader_per_term(sightings: Sequence[Sighting]) -> Check:
    """No two nodes said of themselves that they lead the same term."""
    leaders: dict[int, set[str]] = defaultdict(set)
    for seen in sightings:
        if seen.node.role == "leader":
            leaders[seen.node.term].add(seen.node.id)
    wrong = [f"{' and '.join(sorted(ids))} in term {term}" for term, ids in leaders.items() if len(ids) > 1]
    found = "; ".join(wrong[:_SHOWN]) or f"{len(leaders)} terms with a leader"
    return Check("one leader per term", not wrong, found)


def elections(sightings: Sequence[Sighting]) -> int:
    """How many elections nodes stood for while they were watched: each begins a term."""
    terms = [seen.node.term for seen in sightings]
    return max(terms) - min(terms) if terms else 0


def few_elections(found: int, allowed: int) -> Check:
    """No more of them than the plan allows."""
    return Check(f"at most {allowed} elections" if allowed else "no election", found <= allowed, str(found))


def linearizable(judgements: Sequence[Judgement], operations: Sequence[Operation]) -> Check:
    """What clients of the key-value space saw can be ordered, key by key; undecided is not held."""
    wrong = [str(one) for one in judgements if one.verdict is not Verdict.LINEARIZABLE]
    unknown = sum(one.outcome is Outcome.UNKNOWN for one in operations)
    found = "; ".join(wrong[:_SHOWN]) or f"{len(operations)} operations, {unknown} of them without an answer"
    return Check("histories of registers and queues are linearizable", not wrong, found)


def all_overcome(incidents: Sequence[Incident]) -> Check:
    """After every fault there was service again, and whom it hit caught up."""
    wrong = [f"{one.fault} on {one.victims}: {one.problem}" for one in incidents if one.problem]
    found = "; ".join(wrong[:_SHOWN]) or f"{len(incidents)} faults"
    return Check("every fault was overcome", not wrong, found)


def within(incidents: Sequence[Incident], limit: Limit) -> list[Check]:
    """The plan's limit on one measure: at the median, and at the worst."""
    found = summary(durations(incidents, limit))
    of = "each fault of the leader" if limit.of == "leader" else "each fault"
    checks = []
    for how, bound, at in (("median", limit.median_ms, 0), ("worst", limit.worst_ms, 1)):
        if bound is not None and found is not None:
            promise = f"{limit.measure} after {of}: {how} within {bound:g} ms"
            checks.append(Check(promise, found[at] <= bound, f"{found[at]:g} ms"))
    return checks
