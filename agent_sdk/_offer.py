"""What the agent is, as far as the coordinator knows: changed while it runs, and told until it is taken."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from agent_sdk._executor import Executor
from agent_sdk._profile import Profile
from agent_sdk.errors import InvalidRequest, QuorumflowError, from_detail
from quorumflow_proto.v1 import agent_pb2

logger = logging.getLogger("agent_sdk")


class Offer:
    """`current` is what the agent wants to be. Belongs to the running loop.

    As long as the coordinator may go by something else, the executor takes as much as that allows: nothing
    that is on its way is turned down. What the coordinator refuses is logged, and what it took last holds.
    """

    def __init__(self, profile: Profile, executor: Executor, on_news: Callable[[], None]) -> None:
        self.current = profile
        self._executor = executor
        self._on_news = on_news
        self._taken = profile
        self._asked: deque[Profile] = deque()
        self._told = profile

    def change(self, profile: Profile) -> None:
        """Be this from now on."""
        self.current = profile
        self._resize()
        self._on_news()

    def opened(self, said: Profile) -> None:
        """A session has begun, whose hello said this."""
        self._taken = self._told = said
        self._asked.clear()
        self._resize()

    def take(self) -> Profile | None:
        """What is to be told next; None when all is."""
        if self._told is self.current:
            return None
        self._told = self.current
        self._asked.append(self.current)
        return self.current

    def answered(self, reply: agent_pb2.RespecReply) -> None:
        """The coordinator has taken, or refused, the first that was told and not answered."""
        if not self._asked:
            return
        asked = self._asked.popleft()
        if reply.HasField("error"):
            self._refused(asked, from_detail(reply.error))
        else:
            self._taken = asked
        self._resize()

    def refused(self, failure: QuorumflowError) -> None:
        """No session begins: if what the agent wants to be is why, it goes back to what it was."""
        if isinstance(failure, InvalidRequest) and self.current is not self._taken:
            self._refused(self.current, failure)
            self._resize()

    def _refused(self, profile: Profile, error: QuorumflowError) -> None:
        logger.error("the coordinator refused what the agent is to be: %s", error)
        if self.current is profile:
            self.current = self._told = self._taken

    def _resize(self) -> None:
        credit = max(one.credit for one in (self.current, self._taken, *self._asked))
        self._executor.resize(self.current.slots, credit)
