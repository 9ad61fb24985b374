"""Assignments that have been proposed and are not settled yet."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.core.commands import Choice


class UnderWay:
    """The tasks of these assignments. Nobody else is to place them meanwhile."""

    def __init__(self) -> None:
        self._said_ready: dict[int, bool] = {}
        """By key, whether the task has been said to be READY since."""

    def __contains__(self, key: int) -> bool:
        return key in self._said_ready

    def begin(self, choices: Iterable[Choice]) -> None:
        """These are proposed. A rival is no assignment of a task that waits."""
        self._said_ready.update((choice.key, False) for choice in choices if not choice.rival)

    def free(self, keys: Iterable[int]) -> list[int]:
        """Those of these READY tasks that may be placed now; the others come when they are settled."""
        free = []
        for key in keys:
            if key in self._said_ready:
                self._said_ready[key] = True
            else:
                free.append(key)
        return free

    def settle(self, choices: Iterable[Choice]) -> list[int]:
        """These have been applied or refused: the keys of tasks that may be READY again, or still."""
        return [
            choice.key for choice in choices if not choice.rival and self._said_ready.pop(choice.key, False)
        ]
