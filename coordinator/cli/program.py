"""What both programs share: their errors become messages on stderr and exit codes."""

from __future__ import annotations

from typing import Any

import click

from agent_sdk.errors import QuorumflowError
from coordinator.cli.exits import Exit, exit_of
from coordinator.cli.output import Format, print_error
from coordinator.errors import CoordinatorError, InvalidRequest


class Program(click.Group):
    """The outermost group. Its context's `obj` may say by an attribute `output` how errors are printed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of either tree ends the program with its code."""
        try:
            return super().invoke(ctx)
        except (CoordinatorError, QuorumflowError) as error:
            print_error(error, ctx.command_path, _format(ctx))
            ctx.exit(exit_of(error))
        except click.UsageError as error:
            if _format(ctx) is not Format.JSON:
                raise
            print_error(InvalidRequest(error.format_message()), ctx.command_path, Format.JSON)
            ctx.exit(Exit.INVALID)
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)


def _format(ctx: click.Context) -> Format:
    return getattr(ctx.obj, "output", Format.TABLE)
