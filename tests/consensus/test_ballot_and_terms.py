"""Counting votes, and the terms of a log against a plain list (A1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.ballot import Ballot, majority
from coordinator.consensus.terms import TermRuns

ANSWERS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "e", "stranger"]), st.booleans()), max_size=20
)


@given(ANSWERS)
def test_each_voter_counts_once_and_strangers_never(answers: list[tuple[str, bool]]) -> None:
    voters = ["a", "b", "c", "d", "e"]
    ballot = Ballot(voters)
    first: dict[str, bool] = {}
    for voter, granted in answers:
        ballot.record(voter, granted)
        if voter in voters:
            first.setdefault(voter, granted)
    yes = sum(first.values())
    assert ballot.won is (yes >= 3)
    assert ballot.lost is (len(first) - yes >= 3)
    assert ballot.unanswered == set(voters) - set(first)


@given(st.integers(1, 20))
def test_two_majorities_always_meet(members: int) -> None:
    assert 2 * majority(members) > members
    assert majority(members) <= members


@st.composite
def logs(draw: st.DrawFn) -> tuple[int, list[int]]:
    """The base index, and the terms from the base on."""
    steps = draw(st.lists(st.integers(0, 2), max_size=30))
    terms = [draw(st.integers(0, 3))]
    for step in steps:
        terms.append(terms[-1] + step)
    return draw(st.integers(1, 5)), terms


@given(logs(), st.integers(0, 40), st.integers(0, 12), st.data())
def test_runs_agree_with_a_list(
    log: tuple[int, list[int]], place: int, term: int, data: st.DataObject
) -> None:
    base, terms = log
    runs = TermRuns(base, terms[0])
    for offset, each in enumerate(terms[1:], 1):
        runs.extend(base + offset, each)
    match data.draw(st.sampled_from(["nothing", "truncate", "compact"])):
        case "truncate" if len(terms) > 1:
            kept = 1 + place % (len(terms) - 1)
            terms = terms[:kept]
            runs.truncate_from(base + kept)
        case "compact":
            dropped = place % len(terms)
            base, terms = base + dropped, terms[dropped:]
            runs.compact_to(base)
        case _:
            pass
    held = {base + offset: each for offset, each in enumerate(terms)}
    assert runs.last == terms[-1]
    for index, each in held.items():
        assert runs.at(index) == each
    index = base + place % len(terms)
    found = runs.runs(base, index, limit=100)
    starts = [other for other, _ in found]
    assert {
        other: each
        for (first, each), end in zip(found, [*starts[1:], index + 1], strict=True)
        for other in range(first, end)
    } == {other: each for other, each in held.items() if other <= index}
    assert runs.runs(base, index, limit=2) == found[-2:]
    assert runs.runs(index, index, limit=1) == [(index, runs.at(index))]
    below = [other for other, each in held.items() if other <= index and each <= term]
    assert runs.last_up_to(term, index) == max(below, default=base)
