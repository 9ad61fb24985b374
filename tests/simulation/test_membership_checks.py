"""The simulator's check that nobody speaks for a member but the data folder that it is bound to."""

from __future__ import annotations

from chaos.sim.membership_checks import MembershipChecks
from coordinator.consensus.messages import AppendEntries
from tests.consensus.lab import with_learner


def test_a_folder_is_held_to_what_was_bound_up_to_the_term_in_which_it_speaks() -> None:
    bench = with_learner("x")
    term, commit = bench.node.term, bench.node.commit_index
    broken: list[str] = []
    checks = MembershipChecks(broken.append)
    checks.sent("b", AppendEntries(term, 1, 0, 0, commit, []), bench.node.journal)
    checks.speaks("x", "x1", term)
    checks.speaks("x", "another", term - 1)
    assert broken == []
    checks.speaks("x", "another", term + 1)
    assert broken == [
        f"x speaks with folder another in term {term + 1}, and is bound to x1 by entry "
        f"{bench.node.configuration.index}"
    ]
