"""The structured log: one line per event on stderr, as JSON or for the eye, with the process's identity in
each.

Libraries that use the standard `logging` (grpc, asyncio, PySyncObj) go through the same renderer.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(*, level: str, format: str, **identity: str) -> None:  # noqa: A002 - the setting's own name
    """Send every log event of this process to stderr. `identity` (such as `node="n1"`) is part of each.

    `level` is one of debug, info, warning, error; `format` is "json" or "console". Called once, at start.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _bind(identity),
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderer(format)],
        )
    )
    logging.basicConfig(handlers=[handler], level=_LEVELS[level], force=True)


def _bind(identity: dict[str, str]) -> Processor:
    def bind(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        del logger, method
        return {**identity, **event}

    return bind


def _renderer(format: str) -> list[Processor]:  # noqa: A002 - as above
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
