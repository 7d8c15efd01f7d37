"""The commands as a group: errors that the user can fix, and their exit codes.

Imports little, so that `--help` appears at once: what a command needs is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

FAILED, WRONG, INTERRUPTED = 1, 2, 130


class Commands(TyperGroup):
    """The commands. Errors that the user can fix end the program with their message, without a traceback."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _refuse_empty(command, rest)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:  # so ends `COMMAND --help` too, for which nothing must be imported
            raise
        except KeyboardInterrupt:
            raise leave("interrupted; run the same command again to resume", INTERRUPTED) from None
        except Exception as error:
            if (code := _exit_code(error)) is None:
                raise
            raise leave(str(error), code) from None


def _exit_code(error: Exception) -> int | None:
    """The exit code for an error that the user can fix; None for any other."""
    from cpp.store.lease import LockedError
    from pipelines.config.errors import UserError
    from pipelines.engine.row_counts import AccountingError

    if isinstance(error, UserError | LockedError | PermissionError | ConnectionError):
        return WRONG
    return FAILED if isinstance(error, AccountingError) else None


def _refuse_empty(command: Any, args: Sequence[str]) -> None:
    """UsageError for an empty text among the arguments of a command: as a path, it would be the current folder."""
    options = {name for option in command.params if not getattr(option, "is_flag", True) for name in option.opts}
    for before, arg in zip(["", *args], args, strict=False):
        option, equals, value = arg.partition("=")
        in_one = bool(equals) and option in options
        if not (value if in_one else arg).strip():
            title = option if in_one else before if before in options else f"an argument of {command.name}"
            from pipelines.config.errors import UsageError

            raise UsageError(f"{title} is an empty text: give a value, or leave it out (a shell variable may be unset)")


def leave(message: str, code: int) -> typer.Exit:
    """The end of the program with a message on standard error and an exit code; to be raised."""
    from pipelines.engine.progress import Screen

    Screen(stderr=True, soft_wrap=True).print(message, markup=False)
    return typer.Exit(code)


def print_version(wanted: bool) -> None:
    """Print the version of the program and leave, for the option --version."""
    if wanted:
        from pipelines.engine import changes, machine

        typer.echo(f"{changes.PROGRAM} {machine.versions().get(changes.PROGRAM, '(not installed)')}")
        raise typer.Exit
