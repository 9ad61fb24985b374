"""The LoadScore (D3): from 0 to 1 whatever is measured, higher where more is, by weights that add up to 1 and
follow the family and the state of the system. What cannot be believed counts as fully loaded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import AgentLoad, TaskFamily
from coordinator.errors import InvalidRequest
from coordinator.families.load_weights import TERMS, LoadWeights
from coordinator.families.registry import Families
from coordinator.scheduling.load.score import Loads, believed, following, score, shares
from coordinator.scheduling.load.weights import chosen, parse_weights

ANY = st.floats(allow_nan=True, allow_infinity=True)
SHARE = st.floats(0, 1)
WEIGHT = st.one_of(st.just(0.0), st.floats(0, exclude_min=True, allow_infinity=False))
WEIGHTS = st.builds(
    LoadWeights, *[WEIGHT] * 4, st.floats(0, exclude_min=True, allow_infinity=False), gpu=st.booleans()
)
AGENTS = 3
DEFAULT_WEIGHTS = {family: Families().load_weights(family) for family in TaskFamily}


def loads_of(values: list[list[float]]) -> Loads:
    return Loads(*np.array(values, np.float64).reshape(len(Loads._fields), -1))


def many(figures: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    row = st.lists(figures, min_size=AGENTS, max_size=AGENTS)
    return st.lists(row, min_size=len(Loads._fields), max_size=len(Loads._fields))


def same(share: float, **other: float) -> Loads:
    return Loads(*(np.array([other.get(name, share)]) for name in Loads._fields))


@given(WEIGHTS, many(ANY), st.lists(ANY, min_size=AGENTS, max_size=AGENTS), ANY)
def test_a_score_is_from_0_to_1_whatever_is_measured(
    weights: LoadWeights, values: list[list[float]], match: list[float], history: float
) -> None:
    loads = loads_of(values)
    for used in (weights, following(weights, loads, np.ones(AGENTS, np.bool_))):
        assert sum(used.terms) == pytest.approx(1)
        scores = score(used, loads, np.array(match), history)
        assert scores.shape == (AGENTS,)
        assert ((scores >= 0) & (scores <= 1)).all()


@given(WEIGHTS, many(SHARE), many(SHARE), SHARE, SHARE)
def test_more_of_anything_is_no_less_load(
    weights: LoadWeights, one: list[list[float]], other: list[list[float]], match: float, more: float
) -> None:
    low, high = np.minimum(one, other).tolist(), np.maximum(one, other).tolist()
    below = score(weights, loads_of(low), min(match, more), min(match, more))
    above = score(weights, loads_of(high), max(match, more), max(match, more))
    assert (below <= above + 1e-12).all()


def test_every_term_has_its_weight() -> None:
    weights = LoadWeights(1, 2, 3, 4, 10)
    assert weights.terms == pytest.approx((0.05, 0.1, 0.15, 0.2, 0.5))
    idle = same(0.0)
    assert score(weights, same(0.0, cpu=1.0)).item() == pytest.approx(0.05)
    assert score(weights, same(0.0, queue=1.0)).item() == pytest.approx(0.05)
    assert score(weights, same(0.0, memory=1.0)).item() == pytest.approx(0.1)
    assert score(weights, same(0.0, network=1.0)).item() == pytest.approx(0.15)
    assert score(weights, idle, match=1.0).item() == pytest.approx(0.2)
    assert score(weights, idle, history=1.0).item() == pytest.approx(0.5)
    assert score(weights, idle).item() == 0.0


def test_the_gpu_counts_where_the_family_has_one() -> None:
    busy = same(0.0, gpu=1.0, gpu_memory=1.0)
    model, compute = DEFAULT_WEIGHTS[TaskFamily.MODEL], DEFAULT_WEIGHTS[TaskFamily.COMPUTE]
    assert score(model, busy).item() == pytest.approx(model.cpu + model.memory)
    assert score(compute, busy).item() == 0.0


def test_every_family_has_weights_and_a_hybrid_has_their_mean() -> None:
    own = [
        weights
        for family, weights in DEFAULT_WEIGHTS.items()
        if family not in (TaskFamily.HYBRID, TaskFamily.UNSPECIFIED)
    ]
    means = np.mean([weights.terms for weights in own], axis=0)
    assert DEFAULT_WEIGHTS[TaskFamily.HYBRID].terms == pytest.approx(tuple(means))
    heaviest = {family: TERMS[int(np.argmax(one.terms))] for family, one in DEFAULT_WEIGHTS.items()}
    assert heaviest[TaskFamily.MODEL] == "memory"
    assert heaviest[TaskFamily.COMPUTE] == "cpu"
    assert heaviest[TaskFamily.IO] == heaviest[TaskFamily.COMMUNICATION] == "network"


def test_an_operator_s_weights_are_those_of_every_family() -> None:
    operators = parse_weights(" cpu = 3, memory=1")
    found = {family: chosen(own, operators) for family, own in DEFAULT_WEIGHTS.items()}
    assert {weights.terms for weights in found.values()} == {(0.75, 0.25, 0.0, 0.0, 0.0)}
    assert [family for family, one in found.items() if one.gpu] == [
        family for family, one in DEFAULT_WEIGHTS.items() if one.gpu
    ]
    nobodys = parse_weights("")
    assert [chosen(own, nobodys) for own in DEFAULT_WEIGHTS.values()] == list(DEFAULT_WEIGHTS.values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cpu=0", "all 0"),
        ("cpu=-1,memory=2", "cpu of a LoadScore is -1.0"),
        ("cpu=nan", "cpu of a LoadScore is nan"),
        ("memory=inf", "memory of a LoadScore is inf"),
        ("cpu", "'', not a number"),
        ("cpu=much", "'much', not a number"),
        ("disk=1", "'disk=1' is no weight"),
        ("cpu=1,cpu=2", "'cpu=2' is no weight"),
        ("cpu=1,", "'' is no weight"),
    ],
)
def test_weights_that_are_none_are_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_weights(text)
    assert says in refused.value.message


def test_weights_without_a_machine_have_no_part_for_it() -> None:
    assert LoadWeights(1, 1, 2, 7, 9).machine.terms == (0.25, 0.25, 0.5, 0.0, 0.0)
    with pytest.raises(InvalidRequest):
        _ = LoadWeights(match=1).machine


@pytest.mark.parametrize(
    ("mean", "factor"), [(0.0, 1.0), (0.7, 1.0), (0.85, 1.5), (1.0, 2.0), (math.nan, 2.0)]
)
def test_what_is_scarce_everywhere_counts_more(mean: float, factor: float) -> None:
    weights = LoadWeights(cpu=0.5, memory=0.5)
    followed = following(weights, same(0.0, cpu=mean), np.array([True]))
    assert followed.cpu / followed.memory == pytest.approx(factor)
    assert following(weights, same(1.0), np.array([False])) == weights


@given(ANY)
def test_a_share_that_is_none_counts_as_full(value: float) -> None:
    assert shares(value).item() == (value if 0 <= value <= 1 else 1.0)


GARBAGE: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"cpu": 0.5, "latency_ms": 3.0}, {"cpu": 0.5, "latency_ms": 3.0}, 0),
    ({"cpu": math.nan, "memory": math.inf}, {"cpu": 1.0, "memory": 1.0}, 2),
    ({"gpu": -0.1, "packet_loss": 1.1}, {"gpu": 1.0, "packet_loss": 1.0}, 2),
    ({"latency_ms": math.nan}, {"latency_ms": 0.0}, 1),
    ({"latency_ms": -1.0, "net_sent_bps": (1 << 64) - 1}, {"net_sent_bps": (1 << 64) - 1}, 1),
]


@pytest.mark.parametrize(("reported", "expected", "wrong"), GARBAGE)
def test_a_report_is_believed_but_for_what_cannot_be(
    reported: dict[str, Any], expected: dict[str, Any], wrong: int
) -> None:
    assert believed(AgentLoad(**reported)) == (AgentLoad(**expected), wrong)
