"""``ice-tcp listen`` and ``ice-tcp connect``: a pipe between two terminals, whatever is in between."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeVar

import click

from candidates.policy import Policy, PolicyError
from ice_tcp.errors import IceError
from ice_tcp.meeting.code import CodeError
from ice_tcp.meeting.forward import Address, Forward, ForwardError, allow, forward
from ice_tcp.meeting.meeting import Meeting, await_peer, connect, listen, reach_peer
from ice_tcp.meeting.pipe import pipe
from ice_tcp.meeting.sealed import WrongCodeError
from ice_tcp.policy_file import read_policy
from ice_tcp.quic import SessionClosedError
from ice_tcp.rendezvous import RendezvousError

T = TypeVar("T")

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
@click.option(
    "--forward",
    "allowed",
    multiple=True,
    callback=lambda _ctx, _param, values: [_parsed(Address.parse, value) for value in values],
    metavar="HOST:PORT",
    help="Let the other side reach this instead (its `ice-tcp forward`); repeat for more.",
)
@_POLICY
def listen_command(rendezvous: str, secret: str | None, allowed: Sequence[Address], policy_file: Path | None) -> None:
    """Print a code, wait for who connects with it, and join standard input and output to theirs.

    Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used, 4 after a wrong code.
    """
    policy = _policy(policy_file)

    async def serve() -> None:
        async with await_peer(_tell_code, rendezvous=rendezvous, secret=secret, policy=policy) as meeting:
            _tell(_path(meeting))
            with suppress(SessionClosedError):
                await allow(meeting, allowed, _tell)

    async def join() -> None:
        async with listen(_tell_code, rendezvous=rendezvous, secret=secret, policy=policy) as (reader, writer):
            await pipe(reader, writer)

    _run(serve if allowed else join)


@click.command(name="connect")
@click.argument("code")
@_RENDEZVOUS
@_POLICY
def connect_command(code: str, rendezvous: str, policy_file: Path | None) -> None:
    """Join standard input and output to those of who listens under CODE.

    Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used, 4 for a wrong code.
    """
    policy = _policy(policy_file)

    async def join() -> None:
        async with connect(code, rendezvous=rendezvous, policy=policy) as (reader, writer):
            await pipe(reader, writer)

    _run(join)


@click.command(name="forward")
@click.argument("code")
@click.option(
    "-L",
    "forwards",
    multiple=True,
    required=True,
    callback=lambda _ctx, _param, values: [_parsed(Forward.parse, value) for value in values],
    metavar="PORT:HOST:PORT",
    help="A port here, and what it leads to there, as in 8080:localhost:80; repeat for more.",
)
@_RENDEZVOUS
@_POLICY
def forward_command(code: str, forwards: Sequence[Forward], rendezvous: str, policy_file: Path | None) -> None:
    """Let local TCP ports lead to what the other side reaches, which runs `ice-tcp listen --forward HOST:PORT`.

    Until one side ends it. Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used,
    4 for a wrong code.
    """
    policy = _policy(policy_file)

    async def carry() -> None:
        async with reach_peer(code, rendezvous=rendezvous, policy=policy) as meeting:
            _tell(_path(meeting))
            with suppress(SessionClosedError):
                await forward(meeting, forwards, _tell)

    _run(carry)


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ForwardError as error:
        raise click.BadParameter(str(error)) from None


def _tell_code(code: str) -> None:
    _tell(f"code: {code}")


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _path(meeting: Meeting) -> str:
    """In words, what the two are connected by."""
    path = meeting.path
    if path is None:
        return "connected"
    return f"connected over {path.local.transport.upper()}, {'through a relay' if path.is_relayed else 'directly'}"


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
