"""What a scenario has measured, beside what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.table import Table


class Finding(NamedTuple):
    """A figure in a unit, and the bound that it is to keep to: `at_least` or `at_most`, or none. `how` says
    what was measured where."""

    what: str
    value: float
    unit: str
    how: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it keeps to its bound; None if there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        low = self.at_least if self.at_least is not None else float("-inf")
        high = self.at_most if self.at_most is not None else float("inf")
        return low <= self.value <= high

    @property
    def asked(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g} {self.unit}"
        return f"<= {self.at_most:g} {self.unit}" if self.at_most is not None else ""


class Scenario(NamedTuple):
    """What happens, in a sentence, and what came of it."""

    name: str
    story: str
    findings: list[Finding]

    @property
    def missed(self) -> Iterator[Finding]:
        """The figures that do not keep to their bounds."""
        return (one for one in self.findings if one.met is False)

    def __rich__(self) -> Table:
        table = Table("figure", "measured", "asked for", "", "how", title=f"{self.name}: {self.story}")
        for one in self.findings:
            verdict = {True: "met", False: "MISSED", None: ""}[one.met]
            table.add_row(one.what, f"{one.value:.4g} {one.unit}", one.asked, verdict, one.how)
        return table


def less(value: float, than: float) -> float:
    """By how many percent a value is below another."""
    return 100 * (1 - value / than)
