"""Some agents of a table, as families see them (`coordinator.families.family`)."""

from __future__ import annotations

from coordinator.scheduling.agents.rows import RESOURCE_FIELDS, BoolRow, IntRow, Rows
from coordinator.scheduling.agents.table import AgentTable


class Offered:
    """What the agents of these rows say of themselves."""

    def __init__(self, agents: AgentTable, rows: Rows) -> None:
        self._agents = agents
        self._rows = rows

    def has(self, kind: str, name: str) -> BoolRow:
        """As `Offers`."""
        return self._agents.flags(kind, name)[self._rows]

    def level(self, capability: str) -> IntRow:
        """As `Offers`."""
        return self._agents.levels(capability)[self._rows]

    def total(self, resource: str) -> IntRow:
        """As `Offers`."""
        return self._agents.total[self._rows, RESOURCE_FIELDS.index(resource)]

    def limit(self, kind: str, name: str) -> IntRow:
        """As `Offers`."""
        return self._agents.limits((kind, name))[self._rows]
