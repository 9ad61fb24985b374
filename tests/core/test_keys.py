"""The key-value space: versions, expectations, limits, events, and writes that take effect once however often
they are tried (A4, A5, A6, principle 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core import writers
from coordinator.core.appliers import kv
from coordinator.core.keyspace import KvRecord
from coordinator.core.limits import KV_KEY_BYTES, KV_VALUE_BYTES, WRITER_TTL_MS
from coordinator.core.outcome import KvDeleted, KvEvent, KvStored, Refusal, Table

if TYPE_CHECKING:
    from tests.core.conftest import Driver

NEW = c.WriteId()
"""Of a write that nobody repeats."""


def put(key: str, value: bytes = b"v", expect: int | None = None, write: c.WriteId = NEW) -> c.KvPut:
    return c.KvPut(write, key, value, expect)


def delete(key: str, expect: int | None = None, write: c.WriteId = NEW) -> c.KvDelete:
    return c.KvDelete(write, key, expect)


def version_of(node: Driver, command: c.KvPut) -> int:
    """The version that a put gives, which must be carried out."""
    reply = node.do(command)
    assert isinstance(reply, KvStored), reply
    return reply.version


def stored(node: Driver) -> dict[str, KvRecord]:
    """All keys, as they lie on the disk."""
    return {key.decode(): node.store.get(Table.KV, key, KvRecord) for key in node.store.keys(Table.KV)}


# --- versions -----------------------------------------------------------------------------------------------


def test_a_version_is_new_with_each_change_of_any_key(node: Driver) -> None:
    """A6: also with one that puts the same value, and in one entry."""
    replies = node.apply(put("a"), put("a"), put("b"), delete("a"), put("a"), delete("b")).replies
    versions = [one.version for one in replies if isinstance(one, KvStored | KvDeleted)]
    assert len(versions) == 6
    assert versions == sorted(set(versions))
    assert stored(node) == {"a": KvRecord(b"v", versions[4], versions[4])}


def test_a_key_knows_when_it_was_created(node: Driver) -> None:
    """A6: a put keeps it, a delete and a new put do not."""
    first = node.do(put("k"))
    assert isinstance(first, KvStored)
    assert first.created == first.version
    second = node.do(put("k"))
    assert isinstance(second, KvStored)
    assert (second.created, second.version > first.version) == (first.version, True)
    node.do(delete("k"))
    third = node.do(put("k"))
    assert isinstance(third, KvStored)
    assert third.created == third.version > second.version


def test_to_delete_what_is_not_there_is_no_change(node: Driver) -> None:
    """A6."""
    outcome = node.apply(delete("k"))
    assert outcome.replies == [KvDeleted(0)]
    assert outcome.kv_events == []


# --- expectations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [put, delete])
def test_a_stale_expectation_is_refused_with_the_current_version(
    node: Driver, command: Callable[..., c.Command]
) -> None:
    """A6: compare-and-set."""
    old = version_of(node, put("k"))
    current = version_of(node, put("k", b"w"))
    for expect in (0, old, current + 1):
        reply = node.do(command("k", expect=expect))
        assert isinstance(reply, Refusal)
        assert (reply.reason, reply.fields["current"]) == ("STALE_VERSION", str(current))
        wanted = f"version {expect}" if expect else "no such key"
        assert reply.message.startswith(f"key 'k' is at version {current}, and {wanted} was expected")
    assert stored(node)["k"].value == b"w"
    assert not isinstance(node.do(command("k", expect=current)), Refusal)


@pytest.mark.parametrize("command", [put, delete])
def test_a_version_is_expected_of_a_key_that_is_not_there(
    node: Driver, command: Callable[..., c.Command]
) -> None:
    """A6: also of one that was there, so that delete and put again cannot be taken for no change."""
    version = version_of(node, put("k"))
    node.do(delete("k"))
    reply = node.do(command("k", expect=version))
    assert isinstance(reply, Refusal)
    assert (reply.reason, reply.fields["current"]) == ("STALE_VERSION", "0")
    assert not isinstance(node.do(command("k", expect=0)), Refusal)


def test_of_two_that_expect_the_same_one_wins(node: Driver) -> None:
    """A5: in one entry."""
    first, second = node.apply(put("k", b"1", 0), put("k", b"2", 0)).replies
    assert isinstance(first, KvStored)
    assert isinstance(second, Refusal)
    assert second.fields["current"] == str(first.version)
    assert stored(node)["k"].value == b"1"


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason", "setting"),
    [
        (put(""), "INVALID_REQUEST", None),
        (delete(""), "INVALID_REQUEST", None),
        (put("k" * (KV_KEY_BYTES + 1)), "LIMIT_EXCEEDED", "KV_KEY_BYTES"),
        (put("ü" * (KV_KEY_BYTES // 2 + 1)), "LIMIT_EXCEEDED", "KV_KEY_BYTES"),
        (delete("k" * (KV_KEY_BYTES + 1)), "LIMIT_EXCEEDED", "KV_KEY_BYTES"),
        (put("k", bytes(KV_VALUE_BYTES + 1)), "LIMIT_EXCEEDED", "KV_VALUE_BYTES"),
    ],
    ids=["no key", "no key to delete", "long key", "long in bytes", "long key to delete", "large value"],
)
def test_what_no_space_holds_is_refused(
    node: Driver, command: c.Command, reason: str, setting: str | None
) -> None:
    """Principle 6: the error names the limit."""
    reply = node.do(command)
    assert isinstance(reply, Refusal)
    assert (reply.reason, reply.fields.get("setting")) == (reason, setting)
    assert node.state.kv.bytes == 0


def test_the_largest_that_is_allowed_is_taken(node: Driver) -> None:
    """Principle 6: limits are inclusive."""
    node.do(put("k" * KV_KEY_BYTES, bytes(KV_VALUE_BYTES)))
    assert node.state.kv.bytes == KV_KEY_BYTES + KV_VALUE_BYTES


def test_a_full_space_takes_what_does_not_make_it_larger(
    node: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Principle 6: so that who fills it can still change and delete."""
    monkeypatch.setattr(kv, "KV_KEYS", 2)
    monkeypatch.setattr(kv, "KV_BYTES", 10)
    node.apply(put("a", b"1234"), put("b", b"1234"))
    assert fields(node.do(put("c", b""))) == {"setting": "KV_KEYS", "limit": "2", "value": "2"}
    assert fields(node.do(put("a", b"12345"))) == {"setting": "KV_BYTES", "limit": "10", "value": "10"}
    assert isinstance(node.do(put("a", b"4321")), KvStored)
    assert isinstance(node.do(put("a", b"")), KvStored)
    assert isinstance(node.do(put("b", b"12345678")), KvStored)
    node.do(delete("a"))
    assert isinstance(node.do(put("c", b"")), KvStored)


def fields(reply: object) -> dict[str, str]:
    assert isinstance(reply, Refusal)
    assert reply.reason == "LIMIT_EXCEEDED"
    return reply.fields


# --- events -------------------------------------------------------------------------------------------------


def test_every_change_is_told_with_its_value(node: Driver) -> None:
    """A6: watchers are told of changes alone, and apart from those of tasks."""
    outcome = node.apply(put("k", b"1"), put("k", b"2", 0), delete("k"), delete("k"))
    assert outcome.kv_events == [KvEvent("k", 1, b"1", 1), KvEvent("k", 2, None, 1)]
    assert outcome.events == []


# --- writes that are tried again ----------------------------------------------------------------------------


def numbered(number: int, answered: int = 0, writer: str = "w") -> c.WriteId:
    return c.WriteId(writer, number, answered)


def test_a_write_that_is_tried_again_has_one_effect_and_one_reply(node: Driver) -> None:
    """A4: though others have written meanwhile."""
    first = node.do(put("k", b"1", write=numbered(1)))
    node.do(put("k", b"2", write=numbered(1, writer="x")))
    outcome = node.apply(put("k", b"1", write=numbered(1)), put("k", b"1", write=numbered(1)))
    assert outcome.replies == [first, first]
    assert outcome.kv_events == []
    assert stored(node)["k"].value == b"2"


def test_a_delete_and_a_refusal_are_remembered_too(node: Driver) -> None:
    """A4: the retry of a refused write must not succeed, nor that of a delete find nothing."""
    node.do(put("k"))
    refusal = node.do(put("k", expect=0, write=numbered(1)))
    gone = node.do(delete("k", write=numbered(2)))
    assert isinstance(refusal, Refusal)
    assert node.do(put("k", expect=0, write=numbered(1))) == refusal
    assert node.do(delete("k", write=numbered(2))) == gone != KvDeleted(0)


def test_answers_that_have_arrived_are_forgotten(node: Driver) -> None:
    """Principle 6: what is remembered is what is waited for."""
    for number in range(1, 101):
        node.do(put("k", write=numbered(number, number - 2 if number > 2 else 0)))
    (record,) = node.state.kv.writers.values()
    assert list(record.replies) == [98, 99, 100]
    assert len(node.store.keys(Table.KV_WRITER)) == 1
    node.do(put("k", write=numbered(2**63, 2**63)))
    assert list(record.replies) == [2**63]


def test_what_its_client_has_given_up_comes_too_late(node: Driver) -> None:
    """A4: a message that was on its way for long does not undo what came after it."""
    node.do(put("k", b"late", write=numbered(1)))
    node.do(put("k", b"new", write=numbered(3, 3)))
    for number in (1, 2):
        assert node.refused(put("k", b"late", write=numbered(number, 1))) == "STALE_FENCE"
    assert stored(node)["k"].value == b"new"


def test_a_client_that_confirms_nothing_is_refused_at_a_bound(
    node: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Principle 6: and goes on when it does."""
    monkeypatch.setattr(writers, "UNANSWERED_WRITES", 2)
    node.apply(put("k", write=numbered(1)), put("k", write=numbered(2)))
    assert node.refused(put("k", write=numbered(3))) == "QUEUE_FULL"
    assert isinstance(node.do(put("k", write=numbered(1))), KvStored)
    assert isinstance(node.do(put("k", write=numbered(3, 2))), KvStored)


def test_clients_that_write_no_more_are_forgotten(node: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Principle 6: after their time, and the longest idle beyond the bound."""
    monkeypatch.setattr(writers, "WRITERS_KEPT", 2)
    for writer in ("a", "b", "a", "c"):
        node.do(put("k", write=numbered(len(node.outcomes) + 1, writer=writer)))
    node.apply()
    assert list(node.state.kv.writers) == ["a", "c"]
    node.now_ms += WRITER_TTL_MS
    node.apply()
    assert node.state.kv.writers == {}
    assert node.store.keys(Table.KV_WRITER) == []


@pytest.mark.parametrize(
    "write",
    [numbered(0), numbered(-1), numbered(1, 2), numbered(1, -1), numbered(1, writer="w" * 65)],
    ids=["no number", "below 1", "answered before it was sent", "answered below 0", "long name"],
)
def test_a_number_that_no_client_would_give_is_refused(node: Driver, write: c.WriteId) -> None:
    """A4."""
    assert node.refused(put("k", write=write)) == "INVALID_REQUEST"
    assert node.state.kv.writers == {}


# --- against a model ----------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A command of the history; `back` of a write means the one before that, tried again."""

    key: str
    value: bytes | None
    expect: str
    back: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["", "a", "a/b", "b", "ü"]),
        st.none() | st.binary(max_size=3),
        st.sampled_from(["any", "any", "current", "absent", "stale"]),
        st.sampled_from([0, 0, 0, 1, 2]),
    ),
    max_size=40,
)


@given(STEPS)
def test_it_is_a_dict_with_versions(new_driver: Callable[..., Driver], steps: list[Step]) -> None:
    """A5, A6: replies, events and what is stored, against a dict of (value, version, created)."""
    node = new_driver(verify=False)
    model: dict[str, tuple[bytes, int, int]] = {}
    sent: list[tuple[c.Command, Any]] = []
    for step in steps:
        if 0 < step.back <= len(sent):
            command, reply = sent[-step.back]
            assert node.do(command) == reply
            assert node.outcomes[-1].kv_events == []
            continue
        current = model.get(step.key, (b"", 0, 0))[1]
        expect = {"any": None, "current": current, "absent": 0, "stale": current + 1}[step.expect]
        write = numbered(len(sent) + 1, max(len(sent) - 1, 0))
        command = delete(step.key, expect, write)
        if step.value is not None:
            command = put(step.key, step.value, expect, write)
        reply = node.do(command)
        sent.append((command, reply))
        follow(model, step, current, expect, reply)
        assert {key: (one.value, one.version, one.created) for key, one in stored(node).items()} == model


def follow(
    model: dict[str, tuple[bytes, int, int]], step: Step, current: int, expect: int | None, reply: Any
) -> None:
    """Do to the model what the reply says was done, if that is what should have been."""
    if not step.key:
        assert reply.reason == "INVALID_REQUEST"
    elif expect not in (None, current):
        assert (reply.reason, reply.fields["current"]) == ("STALE_VERSION", str(current))
    elif step.value is not None:
        assert reply.version > max((version for _, version, _ in model.values()), default=0)
        created = model[step.key][2] if current else reply.version
        assert reply.created == created
        model[step.key] = (step.value, reply.version, created)
    else:
        assert bool(reply.version) is bool(current)
        model.pop(step.key, None)
