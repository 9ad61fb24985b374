"""Commands about the key-value space."""

from __future__ import annotations

from coordinator.core.commands import KvDelete, KvPut
from coordinator.core.keyspace import KvEntry, KvRecord
from coordinator.core.limits import KV_BYTES, KV_KEY_BYTES, KV_KEYS, KV_VALUE_BYTES
from coordinator.core.outcome import KvDeleted, KvEvent, KvStored, Refusal, Reply, Table
from coordinator.core.refusals import shown, stale_version
from coordinator.core.transaction import Transaction
from coordinator.core.writers import recall, remember


def put(tx: Transaction, command: KvPut) -> Reply:
    """Give the key this value, if its version is the expected one."""
    known = recall(tx, command.write)
    if known is not None:
        return known
    reply = _put(tx, command)
    remember(tx, command.write, reply)
    return reply


def delete(tx: Transaction, command: KvDelete) -> Reply:
    """Remove the key, if its version is the expected one."""
    known = recall(tx, command.write)
    if known is not None:
        return known
    reply = _delete(tx, command)
    remember(tx, command.write, reply)
    return reply


def refusal_of(key: str, value: bytes = b"") -> Refusal | None:
    """Why no space could hold this key with this value; None if one could."""
    size = len(key.encode())
    if not size:
        return Refusal("INVALID_REQUEST", "the key is empty")
    if size > KV_KEY_BYTES:
        return _beyond("the key", size, "KV_KEY_BYTES", KV_KEY_BYTES)
    if len(value) > KV_VALUE_BYTES:
        return _beyond(f"the value of {shown(key)}", len(value), "KV_VALUE_BYTES", KV_VALUE_BYTES)
    return None


def _put(tx: Transaction, command: KvPut) -> Reply:
    key, value, space = command.key, command.value, tx.state.kv
    if (problem := refusal_of(key, value)) is not None:
        return problem
    known = space.entries.get(key)
    if (stale := stale_version("key", key, command.expect, known)) is not None:
        return stale
    name = key.encode()
    size = len(name) + len(value)
    if known is None and len(space.entries) >= KV_KEYS:
        return _full("keys", len(space.entries), "KV_KEYS", KV_KEYS)
    if space.bytes + size - (0 if known is None else known.size) > KV_BYTES:
        return _full("bytes", space.bytes, "KV_BYTES", KV_BYTES)
    version = tx.next_sequence()
    created = version if known is None else known.created
    space.set(key, KvEntry(version, created, size))
    tx.write(Table.KV, name, KvRecord(value, version, created))
    tx.kv_events.append(KvEvent(key, version, value, created))
    return KvStored(version, created)


def _delete(tx: Transaction, command: KvDelete) -> Reply:
    key, space = command.key, tx.state.kv
    if (problem := refusal_of(key)) is not None:
        return problem
    known = space.entries.get(key)
    if (stale := stale_version("key", key, command.expect, known)) is not None:
        return stale
    if known is None:
        return KvDeleted(0)
    version = tx.next_sequence()
    space.set(key, None)
    tx.write(Table.KV, key.encode(), None)
    tx.kv_events.append(KvEvent(key, version, None, known.created))
    return KvDeleted(version)


def _beyond(what: str, value: int, setting: str, limit: int) -> Refusal:
    return Refusal(
        "LIMIT_EXCEEDED",
        f"{what} has {value} bytes, at most {limit} are allowed ({setting})",
        {"setting": setting, "limit": str(limit), "value": str(value)},
    )


def _full(what: str, value: int, setting: str, limit: int) -> Refusal:
    return Refusal(
        "LIMIT_EXCEEDED",
        f"the key-value space holds {value} {what} of at most {limit} ({setting}); delete some first",
        {"setting": setting, "limit": str(limit), "value": str(value)},
    )
