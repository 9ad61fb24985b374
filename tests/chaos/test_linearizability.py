"""The linearizability checker tells good histories from bad ones: known anomalies, unknown outcomes, and any
small history that Hypothesis thinks of, judged against a checker that tries all orders (A1, A2)."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chaos.checking.history import Operation, Outcome, Value
from chaos.checking.linearizability import Judgement, Model, Verdict, judge
from chaos.checking.models import STALE, QueueModel, RegisterModel

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
REGISTER, QUEUE = RegisterModel(), QueueModel()


def op(
    name: str, *arguments: Value, at: tuple[float, float], gives: Value = None, key: str = "k"
) -> Operation:
    return Operation("c", name, key, arguments, at[0], at[1], OK, gives)


def put(value: str, version: int, *at: float, expect: int | None = None) -> Operation:
    return op("put", value, expect, at=(at[0], at[1]), gives=version)


def refused(value: str, present: int, *at: float, expect: int) -> Operation:
    return op("put", value, expect, at=(at[0], at[1]), gives=(STALE, present))


def get(result: Value, *at: float) -> Operation:
    return op("get", at=(at[0], at[1]), gives=result)


def delete(there: bool, *at: float, expect: int | None = None) -> Operation:
    return op("delete", expect, at=(at[0], at[1]), gives=there)


def enqueue(value: str, *at: float, version: int | None = None) -> Operation:
    return op("enqueue", value, at=(at[0], at[1]), gives=version)


def dequeue(value: str | None, *at: float, version: int | None = None) -> Operation:
    return op("dequeue", at=(at[0], at[1]), gives=(value, version))


def unknown(name: str, *arguments: Value, sent: float, would_give: Value = None) -> Operation:
    return Operation("c", name, "k", arguments, sent, math.inf, UNKNOWN, would_give)


def only(history: list[Operation], model: Model[object]) -> Judgement:
    [judgement] = judge(history, model)
    return judgement


GOOD_REGISTERS = {
    "one after another": [get(None, 0, 1), put("a", 3, 2, 3), get(("a", 3), 4, 5)],
    "a read beside a write sees the old or the new": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 8),
        get(("a", 1), 3, 4),
        get(("b", 2), 5, 6),
    ],
    "a slow write takes effect first": [
        put("a", 1, 0, 9),
        put("b", 2, 1, 3),
        get(("b", 2), 4, 5),
    ],
    "compare-and-set and its refusal": [
        put("a", 1, 0, 1, expect=0),
        refused("b", 1, 2, 3, expect=0),
        put("c", 4, 4, 5, expect=1),
        refused("d", 4, 6, 7, expect=1),
        get(("c", 4), 8, 9),
    ],
    "deleted and made anew": [
        put("a", 1, 0, 1),
        delete(True, 2, 3, expect=1),
        get(None, 4, 5),
        delete(False, 6, 7),
        put("b", 5, 8, 9, expect=0),
    ],
    "an unknown write that happened": [unknown("put", "a", None, sent=0), get(("a", 7), 2, 3)],
    "an unknown write that happened late": [
        unknown("put", "a", None, sent=0),
        get(None, 2, 3),
        put("b", 2, 4, 5),
        get(("a", 7), 6, 7),
    ],
    "an unknown write that never happened": [unknown("put", "a", None, sent=0), get(None, 2, 3)],
    "an unknown write told by a refusal": [
        put("a", 1, 0, 1),
        unknown("put", "b", 1, sent=2),
        refused("c", 5, 4, 5, expect=1),
        get(("b", 5), 6, 7),
    ],
    "an unknown delete": [put("a", 1, 0, 1), unknown("delete", None, sent=2), get(None, 4, 5)],
    "one that failed": [
        put("a", 1, 0, 1),
        Operation("c", "put", "k", ("b", None), 2, 3, FAIL),
        get(("a", 1), 4, 5),
    ],
    "touching times are concurrent": [put("a", 1, 0, 1), put("b", 2, 1, 2), get(("a", 1), 1, 1)],
}

BAD_REGISTERS = {
    "stale read": [put("a", 1, 0, 1), put("b", 2, 2, 3), get(("a", 1), 4, 5)],
    "acknowledged write that is gone": [put("a", 1, 0, 1), get(None, 2, 3)],
    "lost update": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 5, expect=1),
        put("c", 3, 3, 6, expect=1),
    ],
    "reads that go back": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 9),
        get(("b", 2), 3, 4),
        get(("a", 1), 5, 6),
    ],
    "split brain: two that made the same key": [
        put("a", 1, 0, 3, expect=0),
        put("b", 2, 1, 4, expect=0),
    ],
    "split brain: each side reads its own": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 3),
        get(("a", 1), 2, 4),
        get(("b", 2), 5, 6),
        get(("a", 1), 7, 8),
    ],
    "read from nowhere": [put("a", 1, 0, 1), get(("z", 1), 2, 3)],
    "read of what comes later": [get(("a", 1), 0, 1), put("a", 1, 2, 3)],
    "another version of the same value": [put("a", 1, 0, 1), get(("a", 2), 2, 3)],
    "a version that goes back": [put("a", 5, 0, 1), put("b", 4, 2, 3)],
    "a version that goes back over a deletion": [
        put("a", 5, 0, 1),
        delete(True, 2, 3),
        put("b", 5, 4, 5),
    ],
    "a compare-and-set refused for the version that was there": [
        put("a", 1, 0, 1),
        refused("b", 1, 2, 3, expect=1),
    ],
    "one request that took effect twice": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 3),
        get(("a", 3), 4, 5),
    ],
    "an effect of one that failed": [
        Operation("c", "put", "k", ("a", None), 0, 1, FAIL),
        get(("a", 1), 2, 3),
    ],
    "an unknown write that came and went": [
        put("a", 1, 0, 1),
        unknown("put", "b", None, sent=2),
        get(("b", 2), 4, 5),
        get(("a", 1), 6, 7),
    ],
    "an unknown write before it was sent": [
        get(("a", 1), 0, 1),
        unknown("put", "a", None, sent=2),
    ],
    "an unknown write that happened twice": [
        unknown("put", "a", None, sent=0),
        get(("a", 1), 1, 2),
        put("b", 2, 3, 4),
        get(("a", 3), 5, 6),
    ],
    "an unknown compare-and-set whose version had gone": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 3),
        unknown("put", "c", 1, sent=4),
        get(("c", 5), 6, 7),
    ],
    "a delete of nothing that found something": [delete(True, 0, 1)],
}

GOOD_QUEUES = {
    "in order": [
        enqueue("a", 0, 1),
        enqueue("b", 2, 3),
        dequeue("a", 4, 5),
        dequeue("b", 6, 7),
        dequeue(None, 8, 9),
    ],
    "two at once in either order": [
        enqueue("a", 0, 3),
        enqueue("b", 1, 4),
        dequeue("b", 5, 6),
        dequeue("a", 7, 8),
    ],
    "two at once in the order of their versions": [
        enqueue("a", 0, 3, version=7),
        enqueue("b", 1, 4, version=5),
        dequeue("b", 5, 6, version=8),
        dequeue("a", 7, 8, version=9),
        dequeue(None, 9, 10, version=9),
    ],
    "an unknown enqueue, seen": [unknown("enqueue", "a", sent=0), dequeue("a", 2, 3)],
    "an unknown enqueue, not seen": [unknown("enqueue", "a", sent=0), dequeue(None, 2, 3)],
    "an unknown dequeue took one": [
        enqueue("a", 0, 1),
        enqueue("b", 2, 3),
        unknown("dequeue", sent=4),
        dequeue("b", 6, 7),
    ],
    "an unknown dequeue took none": [
        enqueue("a", 0, 1),
        unknown("dequeue", sent=2, would_give=("a", None)),
        dequeue("a", 4, 5),
    ],
}

BAD_QUEUES = {
    "double dequeue": [enqueue("a", 0, 1), dequeue("a", 2, 3), dequeue("a", 4, 5)],
    "double dequeue at once": [enqueue("a", 0, 1), dequeue("a", 2, 5), dequeue("a", 3, 6)],
    "out of order": [enqueue("a", 0, 1), enqueue("b", 2, 3), dequeue("b", 4, 5), dequeue("a", 6, 7)],
    "two at once against their versions": [
        enqueue("a", 0, 3, version=5),
        enqueue("b", 1, 4, version=7),
        dequeue("b", 5, 6, version=8),
        dequeue("a", 7, 8, version=9),
    ],
    "versions that go back": [enqueue("a", 0, 1, version=7), enqueue("b", 2, 3, version=5)],
    "lost": [enqueue("a", 0, 1), dequeue(None, 2, 3)],
    "from nowhere": [dequeue("a", 0, 1)],
    "one gone that nobody took": [enqueue("a", 0, 1), enqueue("b", 2, 3), dequeue("b", 4, 5)],
    "an unknown dequeue that took another": [
        enqueue("a", 0, 1),
        enqueue("b", 2, 3),
        unknown("dequeue", sent=4, would_give=("b", None)),
        dequeue("b", 6, 7),
    ],
    "more gone than one unknown dequeue can take": [
        enqueue("a", 0, 1),
        enqueue("b", 2, 3),
        enqueue("c", 4, 5),
        unknown("dequeue", sent=6),
        dequeue("c", 8, 9),
    ],
}


@pytest.mark.parametrize("name", GOOD_REGISTERS)
def test_a_good_register_passes(name: str) -> None:
    assert only(GOOD_REGISTERS[name], REGISTER).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", BAD_REGISTERS)
def test_a_bad_register_does_not(name: str) -> None:
    assert only(BAD_REGISTERS[name], REGISTER).verdict is Verdict.NOT_LINEARIZABLE


@pytest.mark.parametrize("name", GOOD_QUEUES)
def test_a_good_queue_passes(name: str) -> None:
    assert only(GOOD_QUEUES[name], QUEUE).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", BAD_QUEUES)
def test_a_bad_queue_does_not(name: str) -> None:
    assert only(BAD_QUEUES[name], QUEUE).verdict is Verdict.NOT_LINEARIZABLE


def test_what_is_wrong_is_told() -> None:
    first, second = put("a", 1, 0, 1), put("b", 2, 2, 3)
    stale, later = get(("a", 1), 4, 5), put("c", 9, 6, 7)
    explanation = only([first, second, stale, later], REGISTER).explanation
    assert explanation is not None
    assert explanation.prefix == (first, second)
    assert explanation.stuck == stale
    assert "cannot be placed: [4.000000 .. 5.000000] c: k.get() -> ok ('a', 1)" in str(explanation)
    assert "state: 'b' at version 2" in str(explanation)


def test_keys_are_judged_one_by_one() -> None:
    good = op("put", "a", None, at=(0, 1), gives=1, key="x")
    bad = op("get", at=(2, 3), gives=("z", 9), key="y")
    assert [(found.key, found.verdict) for found in judge([bad, good], REGISTER)] == [
        ("x", Verdict.LINEARIZABLE),
        ("y", Verdict.NOT_LINEARIZABLE),
    ]


def test_a_search_that_is_given_up_is_no_pass() -> None:
    history = GOOD_REGISTERS["a slow write takes effect first"]
    [found] = judge(history, REGISTER, steps=2)
    assert found.verdict is Verdict.UNDECIDED
    assert found.explanation is not None
    assert found.explanation.stuck == history[2]


# --- against all orders -------------------------------------------------------------------------------------


def some_order_fits(history: list[Operation], model: Model[object]) -> bool:
    """By the definition: some unknown operations are taken to have happened, and some order of all keeps to
    real time and to the model."""
    known = [operation for operation in history if operation.outcome is OK]
    open_ones = [operation for operation in history if operation.outcome is UNKNOWN]
    for happened in range(1 << len(open_ones)):
        chosen = known + [operation for number, operation in enumerate(open_ones) if happened >> number & 1]
        if any(fits(order, model) for order in permutations(chosen)):
            return True
    return False


def fits(order: tuple[Operation, ...], model: Model[object]) -> bool:
    for number, later in enumerate(order):
        if any(later.completed < earlier.invoked for earlier in order[:number]):
            return False
    state: object | None = model.initial()
    for operation in order:
        state = None if state is None else model.step(state, operation)
    return state is not None


VALUES = st.sampled_from(("a", "b"))
VERSIONS = st.integers(1, 3)
EXPECTED = st.none() | st.integers(0, 3)
STALE_ANSWERS = st.tuples(st.just(STALE), st.integers(0, 3))


@st.composite
def small_histories(
    draw: st.DrawFn, *kinds: tuple[str, st.SearchStrategy, st.SearchStrategy]
) -> list[Operation]:
    """Up to six operations on one key; times touch and overlap in all ways."""
    history = []
    for _ in range(draw(st.integers(1, 6))):
        name, arguments, results = draw(st.sampled_from(kinds))
        outcome = draw(st.sampled_from((OK, OK, OK, UNKNOWN, FAIL)))
        invoked = draw(st.integers(0, 8))
        completed = math.inf if outcome is UNKNOWN else invoked + draw(st.integers(0, 4))
        result = draw(results) if outcome is OK else None
        history.append(Operation("c", name, "k", draw(arguments), invoked, completed, outcome, result))
    return history


REGISTERS = small_histories(
    ("put", st.tuples(VALUES, EXPECTED), VERSIONS | VERSIONS | STALE_ANSWERS),
    ("get", st.just(()), st.none() | st.tuples(VALUES, VERSIONS)),
    ("delete", st.tuples(EXPECTED), st.booleans() | STALE_ANSWERS),
)
QUEUES = small_histories(
    ("enqueue", st.tuples(VALUES), st.none() | VERSIONS),
    ("dequeue", st.just(()), st.tuples(st.none() | VALUES, st.none() | VERSIONS)),
)


@settings(max_examples=400, deadline=None)
@given(REGISTERS)
@example(BAD_REGISTERS["lost update"])
def test_registers_are_judged_as_by_trying_all_orders(history: list[Operation]) -> None:
    assert (only(history, REGISTER).verdict is Verdict.LINEARIZABLE) == some_order_fits(history, REGISTER)


@settings(max_examples=400, deadline=None)
@given(QUEUES)
def test_queues_are_judged_as_by_trying_all_orders(history: list[Operation]) -> None:
    assert (only(history, QUEUE).verdict is Verdict.LINEARIZABLE) == some_order_fits(history, QUEUE)


# --- at size ------------------------------------------------------------------------------------------------


def long_history(
    operations: int, keys: int, clients: int, seed: int, unknown_share: float
) -> list[Operation]:
    """What a correct space gives to clients at work at the same time; each operation takes effect at a moment
    between its two times."""
    chance = random.Random(seed)
    planned = []
    free_at = [chance.random() for _ in range(clients)]
    for _ in range(operations):
        client = free_at.index(min(free_at))
        sent = free_at[client]
        heard = sent + chance.uniform(0.1, 2.0)
        free_at[client] = heard + 0.001
        planned.append((chance.uniform(sent, heard), sent, heard, client))
    space: dict[str, tuple[str, int]] = {}
    history = []
    for number, (_, sent, heard, client) in enumerate(sorted(planned)):
        key = f"k{chance.randrange(keys)}"
        value, version = space.get(key, (None, 0))
        lost = chance.random() < unknown_share
        match chance.choice(("get", "put", "put", "swap", "delete")):
            case "get":
                name, arguments, result = "get", (), None if value is None else (value, version)
            case "delete":
                name, arguments, result = "delete", (None,), value is not None
                space.pop(key, None)
            case kind:
                expect = None if kind == "put" else chance.choice((version, version, 0))
                name, arguments = "put", (f"v{number}", expect)
                if expect in (None, version):
                    space[key] = (f"v{number}", number + 1)
                    result = number + 1
                else:
                    result = (STALE, version)
        history.append(
            Operation(
                f"c{client}",
                name,
                key,
                arguments,
                sent,
                math.inf if lost else heard,
                UNKNOWN if lost else OK,
                None if lost else result,
            )
        )
    return history


def test_ten_thousand_operations_with_unknown_ones_among_them_are_decided() -> None:
    history = long_history(10_000, keys=20, clients=10, seed=1, unknown_share=0.02)
    assert {found.verdict for found in judge(history, REGISTER)} == {Verdict.LINEARIZABLE}


def test_one_stale_read_in_ten_thousand_operations_is_found() -> None:
    history = long_history(10_000, keys=20, clients=10, seed=2, unknown_share=0.02)
    number = next(
        number
        for number, read in enumerate(history)
        if number > 5_000 and read.name == "get" and read.outcome is OK and read.result is not None
    )
    read = history[number]
    history[number] = op("get", at=(read.invoked, read.completed), gives=("v1", 2), key=read.key)
    wrong = [found for found in judge(history, REGISTER) if found.verdict is not Verdict.LINEARIZABLE]
    assert [found.key for found in wrong] == [read.key]
    assert wrong[0].explanation is not None
    assert wrong[0].explanation.stuck == history[number]
