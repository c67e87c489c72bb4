"""``ice-tcp listen`` and ``ice-tcp connect``: a pipe between two terminals, whatever is in between."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import click

from candidates.policy import Policy, PolicyError
from ice_tcp.errors import IceError
from ice_tcp.meeting.code import CodeError
from ice_tcp.meeting.meeting import connect, listen
from ice_tcp.meeting.pipe import pipe
from ice_tcp.meeting.sealed import WrongCodeError
from ice_tcp.policy_file import read_policy
from ice_tcp.rendezvous import RendezvousError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_RENDEZVOUS: Final = click.option(
    "--rendezvous",
    envvar="ICE_TCP_RENDEZVOUS",
    show_envvar=True,
    required=True,
    metavar="URL",
    help="Where to meet, as in wss://example.org.",
)
_POLICY: Final = click.option("--policy", "policy_file", type=_FILE, metavar="F", help="A policy file.")


class Status(IntEnum):
    """Exit statuses; 2 is a misuse, as everywhere."""

    FAILED = 1
    NO_RENDEZVOUS = 3
    WRONG_CODE = 4


@click.command(name="listen")
@_RENDEZVOUS
@click.option("--secret", metavar="WORDS", help="The code's secret, words with hyphens between; drawn unless given.")
@_POLICY
def listen_command(rendezvous: str, secret: str | None, policy_file: Path | None) -> None:
    """Print a code, wait for who connects with it, and join standard input and output to theirs.

    Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used, 4 after a wrong code.
    """

    def tell_code(code: str) -> None:
        click.echo(f"code: {code}", err=True)

    policy = _policy(policy_file)
    _run(lambda: _joined(listen(tell_code, rendezvous=rendezvous, secret=secret, policy=policy)))


@click.command(name="connect")
@click.argument("code")
@_RENDEZVOUS
@_POLICY
def connect_command(code: str, rendezvous: str, policy_file: Path | None) -> None:
    """Join standard input and output to those of who listens under CODE.

    Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used, 4 for a wrong code.
    """
    policy = _policy(policy_file)
    _run(lambda: _joined(connect(code, rendezvous=rendezvous, policy=policy)))


async def _joined(meeting: Any) -> None:
    async with meeting as (reader, writer):
        await pipe(reader, writer)


def _run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    try:
        asyncio.run(main())
    except BrokenPipeError:
        sys.exit(Status.FAILED)  # whoever read the output has seen enough
    except CodeError as error:
        raise click.UsageError(str(error)) from None
    except WrongCodeError as error:
        _fail(Status.WRONG_CODE, error)
    except RendezvousError as error:
        _fail(Status.NO_RENDEZVOUS, error)
    except (IceError, OSError) as error:
        _fail(Status.FAILED, error)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(status: Status, error: Exception) -> None:
    click.echo(f"error: {error}", err=True)
    sys.exit(status)


def _policy(path: Path | None) -> Policy | None:
    if path is None:
        return None
    try:
        return read_policy(path)
    except (PolicyError, OSError, UnicodeError) as error:
        raise click.UsageError(f"the policy file cannot be used:\n{error}") from None
