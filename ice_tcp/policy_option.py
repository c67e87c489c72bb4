"""The option ``--policy F`` of commands, and the policy that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from candidates.policy import Policy, PolicyError
from ice_tcp.policy_file import read_policy

EXISTING_FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def policy_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option, as the parameter ``policy_file``; ``text`` is its help."""
    return click.option("--policy", "policy_file", type=EXISTING_FILE, metavar="F", help=text)


def policy_for_command(path: Path, *, note: Callable[[Path], object] | None = None) -> Policy:
    """The policy of a file for a command that needs a good one. Raises UsageError, with everything that is wrong."""
    try:
        return read_policy(path, note=note)
    except PolicyError as error:
        raise click.UsageError(f"the policy file cannot be used:\n{error}") from None
    except (OSError, UnicodeError) as error:
        raise unreadable(path, error) from None


def given_options(context: click.Context) -> dict[str, Any]:
    """What the command line or the environment says, and no default: what overrides a policy."""
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }


def unreadable(path: Path, error: Exception) -> click.UsageError:
    """For a policy file that cannot be read at all."""
    return click.UsageError(f"the policy file cannot be used: {path} cannot be read: {error}")
