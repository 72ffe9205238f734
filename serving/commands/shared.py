"""What every command needs: the settings, and errors a user can read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from features.settings import Settings


def settings() -> Settings:
    """Return the practice's settings."""
    from features.settings import load_settings

    return load_settings()


def friendly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors a user can mend into one line and exit code 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from features.errors import RevisitError

        try:
            return command(*args, **kwargs)
        except RevisitError as error:
            click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)
            raise SystemExit(2) from None

    return run
