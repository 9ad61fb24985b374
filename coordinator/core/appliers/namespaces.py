"""Commands about namespaces."""

from __future__ import annotations

import msgspec

from coordinator.core.commands import SetNamespace, UnsetNamespace
from coordinator.core.limits import GREATEST_WEIGHT, LEAST_WEIGHT, NAMESPACE_CHARS, NAMESPACES_KEPT
from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.core.outcome import Done, NamespaceSet, Refusal, Reply, Table
from coordinator.core.refusals import not_found
from coordinator.core.transaction import Transaction


def change(tx: Transaction, command: SetNamespace) -> Reply:
    """Set what the command names, and leave the rest."""
    known = tx.state.namespaces.settings.get(command.name)
    refusal = refusal_of(command)
    if refusal is None and known is None and len(tx.state.namespaces.settings) >= NAMESPACES_KEPT:
        refusal = Refusal(
            "LIMIT_EXCEEDED",
            f"{NAMESPACES_KEPT} namespaces have settings already; unset one that is not needed any more",
            {"limit": str(NAMESPACES_KEPT), "value": str(len(tx.state.namespaces.settings))},
        )
    if refusal is not None:
        return refusal
    record = _changed(known or NamespaceRecord(command.name), command)
    tx.state.namespaces.settings[command.name] = record
    tx.write(Table.NAMESPACE, command.name.encode(), record)
    tx.effects.namespaces.append(command.name)
    return NamespaceSet(record)


def unset(tx: Transaction, command: UnsetNamespace) -> Reply:
    """Forget what was set."""
    if tx.state.namespaces.settings.pop(command.name, None) is None:
        return not_found("a setting of namespace", command.name)
    tx.write(Table.NAMESPACE, command.name.encode(), None)
    tx.effects.namespaces.append(command.name)
    return Done(1)


def refusal_of(command: SetNamespace) -> Refusal | None:
    """Why no namespace could be so; None if one could."""
    name, weight = command.name, command.weight
    if not name or not name.isprintable() or len(name) > NAMESPACE_CHARS:
        return Refusal(
            "INVALID_REQUEST",
            f"a namespace's name has 1 to {NAMESPACE_CHARS} printable characters; this one has {len(name)}",
            {"value": name[:NAMESPACE_CHARS], "limit": str(NAMESPACE_CHARS)},
        )
    if weight is not None and not LEAST_WEIGHT <= weight <= GREATEST_WEIGHT:
        return Refusal(
            "INVALID_REQUEST",
            f"the weight of a namespace is to be {weight}; allowed: {LEAST_WEIGHT} to {GREATEST_WEIGHT}",
            {"namespace": name, "value": str(weight), "limit": str(GREATEST_WEIGHT)},
        )
    for quota in Quotas.__struct_fields__:
        value = getattr(command.quotas, quota)
        if value is not None and value < 0:
            return Refusal(
                "INVALID_REQUEST",
                f"the quota {quota} of namespace {name!r} is to be {value}; allowed: 0 or more",
                {"quota": quota, "value": str(value)},
            )
    unknown = [quota for quota in command.lifted if quota not in Quotas.__struct_fields__]
    if unknown:
        known = ", ".join(Quotas.__struct_fields__)
        return Refusal(
            "INVALID_REQUEST",
            f"there is no quota {unknown[0]!r} to lift; there are {known}",
            {"value": unknown[0][:NAMESPACE_CHARS]},
        )
    return None


def _changed(known: NamespaceRecord, command: SetNamespace) -> NamespaceRecord:
    given = command.quotas
    quotas = {
        quota: before if (now := getattr(given, quota)) is None else now
        for quota, before in msgspec.structs.asdict(known.quotas).items()
    }
    quotas |= dict.fromkeys(command.lifted)
    return NamespaceRecord(
        known.name,
        known.weight if command.weight is None else command.weight,
        Quotas(**quotas),
        known.policy if command.policy is None else command.policy,
    )
