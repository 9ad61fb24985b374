"""Whatever decodes as an entry can be applied: entries with bytes or values changed are either refused by the
decoder or leave a sound state that can be written (A4, B5).

One history uses every command; each example changes one of its entries and applies it to the state that the
entry met.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core import machine
from coordinator.core.digest import EMPTY, roll
from coordinator.core.invariants import violations
from coordinator.core.model import AgentLoad, AttemptOutcome, DagHeader, TaskProfile
from coordinator.core.namespaces import Quotas
from coordinator.core.reservations import ReservationRecord

if TYPE_CHECKING:
    from tests.core.conftest import Driver, Store

_decode = msgspec.msgpack.Decoder(c.Entry).decode
_POOL: Final[list[Any]] = [
    *(-(2**63), -1, 0, 1, 2, 3, 1 << 24, 1 << 24 | 1, 2**63, 2**64 - 1, 0.5, float("nan")),
    *("", "d", "a", "w", "r1", b"", b"x", True, None, [], [[]], {}),
]

if TYPE_CHECKING:
    Moment = tuple[bytes, Store, int]
    """An entry, what was stored before it, and its index."""

many = settings(max_examples=20 * settings().max_examples)
"""These are quick."""


def history(node: Driver) -> None:
    """Every command at least once, most of them with an effect."""
    node.join("w", credit=20, milli_cores=100)
    node.join("v")
    node.join("u")
    policy = node.profile(max_attempts=3, delay_ms=5, timeout_ms=10, milli_cores=1, preemptible=True)
    graph: dict[str, list[str]] = {"a": [], "b": ["a"], "c": [], "e": ["c"]}
    node.do(node.submission("d", graph, policy, request_id="r1"))
    node.start("w", "d", "a", "c")
    node.do(node.said("w", "d", "a", c.ReportKind.PROGRESS, progress=0.5))
    node.do(node.said("w", "d", "a", c.ReportKind.CHECKPOINT, data=b"half"))
    added = [c.NewTask("s", TaskProfile("other"), ("a",)), c.NewTask("t", policy, ("s", "c"))]
    node.do(c.SpawnTasks("r2", "w", node.epoch("w"), node.key("d", "a"), 1, added))
    node.now_ms += 20
    node.do(c.ExpireAttempts([(node.key("d", "c"), 1)]))
    node.now_ms += 20
    node.do(c.WakeTasks([node.key("d", "c")]))
    node.do(node.said("w", "d", "a", data=b"whole"))
    node.do(c.RescheduleTask("r3", "d", "c", "why"))
    node.do(c.CancelTask("r4", "d", "c", "why"))
    node.join("w", held=[(node.key("d", "c"), 1)], credit=20)
    node.assign("v", "d", "b", "s")
    node.do(c.Assign([node.choice("w", "d", "b", rival=True)]))
    node.do(c.ChangeAgent(node.spec("u", credit=5), node.epoch("u")))
    node.do(c.Recall([c.Move(2, node.choice("u", "d", "b"))], "sooner"))
    node.do(c.Preempt([(node.key("d", "b"), 3)], "urgent"))
    node.do(c.RecordLoads({"w": AgentLoad(cpu=0.5), "v": AgentLoad()}))
    node.do(c.KeepLoads(0, 400, b"packed"))
    node.do(c.DrainAgent("r5", "w"))
    node.do(c.CloseSession("v", node.epoch("v"), False))
    node.do(c.LoseAgents([("v", node.epoch("v"))], "silent"))
    node.do(c.ForgetAgents([("v", node.epoch("v"))]))
    node.do(c.StageDag("", DagHeader("g"), [policy], node.block({"x": []}), False))
    node.do(c.StageDag("", DagHeader("g"), [], node.block({"y": ["x"]}, 1, ["x"]), True))
    node.do(c.StageDag("", DagHeader("h"), [policy], node.block({"x": []}), False))
    node.do(c.DropStaged("h", "broken off"))
    node.do(c.SetNamespace("r7", "default", 2.0, "fast", Quotas(9, tasks=90)))
    node.do(c.SetNamespace("", "other", lifted=("tasks",)))
    node.do(c.UnsetNamespace("", "other"))
    kept = ReservationRecord("sale", "shop", 1, 0, node.now_ms + 500, ("w", "u"), "z", "g", (("a", "b"),))
    node.do(c.SetReservation("r8", kept, 0))
    node.do(c.SetReservation("", ReservationRecord("half", "default", 1)))
    node.submit("i", {"x": []})
    node.assign("u", "i", "x")
    roots = c.AssignRoots("r9", [c.Choice(at, 1, "u", node.epoch("u")) for at in (0, 7)])
    node.apply(node.submission("k", {"x": []}, request_id="r9"), roots, c.RemoveReservation("", "sale"))
    node.do(c.KvPut(c.WriteId("w", 1, 1), "k", b"v", 0))
    node.do(c.KvPut(c.WriteId("w", 2, 1), "k", b"w"))
    node.do(c.KvDelete(c.WriteId("w", 3, 2), "k"))
    node.apply(c.CancelDag("r6", "d"), c.SweepDag(2), c.PurgeDags(["h", "d"]))


@pytest.fixture(scope="module")
def moments(new_driver: Callable[..., Driver]) -> list[Moment]:
    """Each entry of the history with the state before it."""
    node = new_driver()
    found: list[Moment] = []
    apply = node.apply

    def remember(*commands: c.Command, at_ms: int | None = None) -> Any:
        before = node.store.copy()
        outcome = apply(*commands, at_ms=at_ms)
        found.append((node.entries[-1], before, node.index))
        return outcome

    node.apply = remember  # type: ignore[method-assign]
    history(node)
    return found


def test_the_history_uses_every_command(moments: list[Moment]) -> None:
    """So that nothing escapes the changes below."""
    used = {type(command) for encoded, _, _ in moments for command in _decode(encoded).commands}
    assert used == set(get_args(c.Command)) == set(machine.APPLIERS)


@many
@given(data=st.data())
def test_changed_bytes_never_make_apply_raise(data: st.DataObject, moments: list[Moment]) -> None:
    """A4: bytes replaced, inserted, removed or cut off."""
    encoded, before, index = data.draw(st.sampled_from(moments))
    changed = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        end = at + data.draw(st.sampled_from([0, 1, 1, 1, 2, len(changed)]))
        changed[at:end] = data.draw(st.binary(max_size=2))
    check(bytes(changed), before.copy(), index)


@many
@given(data=st.data())
def test_changed_values_never_make_apply_raise(data: st.DataObject, moments: list[Moment]) -> None:
    """A4: well-formed msgpack with values of all sorts in the wrong places."""
    encoded, before, index = data.draw(st.sampled_from(moments))
    tree = msgspec.msgpack.decode(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        spots = list(places(tree[2]))
        if spots:
            holder, at = data.draw(st.sampled_from(spots))
            alike = [one for one in _POOL if type(one) is type(holder[at])] or _POOL
            holder[at] = deepcopy(
                data.draw(st.sampled_from(alike if data.draw(st.integers(0, 9)) else _POOL))
            )
    tree[1] = data.draw(st.sampled_from([tree[1], tree[1], -(2**63), 0, 2**64 - 1]))
    check(msgspec.msgpack.encode(tree), before.copy(), index)


def places(tree: Any) -> Any:
    """Every (container, place in it) of the tree."""
    spots = range(len(tree)) if isinstance(tree, list) else list(tree) if isinstance(tree, dict) else ()
    for at in spots:
        yield tree, at
        yield from places(tree[at])


def check(encoded: bytes, store: Store, index: int) -> None:
    """The entry does not decode, or it is applied, and the state is sound and the same after a restart."""
    try:
        entry = _decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    state = store.rebuild()
    outcome = machine.apply(state, index, entry)
    assert len(outcome.replies) == len(entry.commands)
    assert violations(state) == []
    store.take(outcome.writes)
    assert store.portrait(store.rebuild()) == store.portrait(state)


def test_every_outcome_of_an_attempt_that_an_agent_may_claim_is_taken(node: Driver) -> None:
    """F3: an agent cannot leave an attempt LIVE by reporting its end as such."""
    node.join("w", credit=20)
    node.submit("d", {outcome.name: [] for outcome in AttemptOutcome})
    for outcome in AttemptOutcome:
        node.assign("w", "d", outcome.name)
        node.do(node.said("w", "d", outcome.name, outcome=outcome))
    states = node.states("d")
    assert states.pop("COMPLETED") == "COMPLETED"
    assert states.pop("REJECTED") == "READY"
    assert set(states.values()) == {"FAILED"}


def test_the_digest_tells_any_two_histories_apart() -> None:
    """A4: by content, order and index."""
    seen = {
        EMPTY,
        roll(EMPTY, 1, b""),
        roll(EMPTY, 2, b""),
        roll(EMPTY, 1, b"a"),
        roll(EMPTY, 1, b"ab"),
        roll(roll(EMPTY, 1, b"a"), 2, b"b"),
        roll(roll(EMPTY, 1, b"b"), 2, b"a"),
    }
    assert len(seen) == 7
    assert {len(digest) for digest in seen} == {16}
