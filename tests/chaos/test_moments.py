"""How long the cluster was without what after a fault, from what clients and watchers noted. Answers I4."""

from __future__ import annotations

import pytest

from chaos.load.submissions import Acknowledged, SteadyLoad
from chaos.recorder import Sequel, first_told

STRUCK_MS = 1_000


@pytest.mark.parametrize(
    ("sequels", "told"),
    [
        ([], None),
        ([Sequel(990, 995)], None),
        ([Sequel(990, 1_005), Sequel(1_040, 1_050), Sequel(1_030, 1_060)], 1_050),
        # Stamped at once, committed late: it counts when it is told.
        ([Sequel(1_001, 1_700), Sequel(1_650, 1_720)], 1_700),
        # The leader's clock is ahead by a minute.
        ([Sequel(60_990, 995), Sequel(61_020, 1_025)], 1_025),
        # It is behind: what was assigned cannot be told from what had been before.
        ([Sequel(500, 1_010)], None),
    ],
)
def test_the_first_assignment_after_a_fault(sequels: list[Sequel], told: int | None) -> None:
    assert first_told(sequels, STRUCK_MS) == told


def load(*acknowledged: tuple[int, int]) -> SteadyLoad:
    """One that has submitted at these moments and was answered at those."""
    steady = SteadyLoad(["h:1"], pause_s=1.0)
    steady.acknowledged += [Acknowledged("d", 1, began_ms, at_ms) for began_ms, at_ms in acknowledged]
    return steady


def test_only_writes_that_began_after_a_fault_show_that_it_is_over() -> None:
    assert load().acknowledged_after(STRUCK_MS) is None
    # The first was on its way already.
    assert load((990, 1_005), (1_200, 1_250), (1_010, 1_300)).acknowledged_after(STRUCK_MS) == 1_250


def test_a_pause_is_the_longest_time_without_an_answer() -> None:
    steady = load((900, 950), (990, 1_100), (1_200, 1_450), (1_300, 1_500))
    assert steady.longest_pause(1_000, 1_600) == 350
    assert steady.longest_pause(1_000, 2_500) == 1_000, "up to the end"
    assert steady.longest_pause(1_460, 1_490) == 30, "nothing in between"
