"""``ice-tcp listen`` and ``ice-tcp connect``: a pipe between two terminals, whatever is in between."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from enum import IntEnum
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from candidates.policy import Policy
from ice_tcp.capsule import Capsule
from ice_tcp.capsule.command import capsule_option
from ice_tcp.errors import IceError
from ice_tcp.meeting.by_hand import meet_by_hand, read_line
from ice_tcp.meeting.code import CodeError
from ice_tcp.meeting.forward import Address, Forward, ForwardError, allow, forward
from ice_tcp.meeting.meeting import Meeting, await_peer, reach_peer, streaming
from ice_tcp.meeting.pipe import pipe
from ice_tcp.meeting.sealed import WrongCodeError
from ice_tcp.policy_option import EXISTING_FILE, policy_for_command, policy_option
from ice_tcp.quic import SessionClosedError
from ice_tcp.rendezvous import RendezvousError
from ice_tcp.tracefile.option import Tracing, trace_option
from ice_tcp.transfer import Progress, Transferred, offer_file, take_file

T = TypeVar("T")

FILE: Final = "file"
"""The purpose of a stream that has a file."""
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say how the two find each other, as the parameter ``where``."""

    @click.option(
        "--rendezvous",
        envvar="ICE_TCP_RENDEZVOUS",
        show_envvar=True,
        metavar="URL",
        help="Where to meet, as in wss://example.org.",
    )
    @click.option(
        "--signal",
        metavar="file:DIR|stdio",
        help="Meet without a server: in a folder that both see, or with a line each way, copied and pasted.",
    )
    @wraps(command)
    def wrapper(rendezvous: str | None, signal: str | None, **others: Any) -> None:
        if signal is not None and signal != _STDIO and not signal.startswith("file:"):
            raise click.BadParameter("it is file:DIR or stdio", param_hint="--signal")
        if (where := signal or rendezvous) is None:
            raise click.UsageError("where shall the two meet? Give --rendezvous URL, or --signal")
        command(where=where, **others)

    return wrapper


_STDIO: Final = "stdio"
_SECRET: Final = click.option(
    "--secret", metavar="WORDS", help="The code's secret, words with hyphens between; drawn unless given."
)
_POLICY: Final = policy_option("A policy file.")


Finding: TypeAlias = AbstractAsyncContextManager[Meeting]


class Status(IntEnum):
    """Exit statuses; 2 is a misuse, as everywhere."""

    FAILED = 1
    NO_RENDEZVOUS = 3
    WRONG_CODE = 4


def _each(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[T]]:
    """The callback of an option that may be given more than once."""

    def callback(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[T]:
        try:
            return [parse(value) for value in values]
        except ForwardError as error:
            raise click.BadParameter(str(error)) from None

    return callback


@click.command(name="listen")
@_where
@_SECRET
@click.option(
    "--forward",
    "allowed",
    multiple=True,
    callback=_each(Address.parse),
    metavar="HOST:PORT",
    help="Let the other side reach this instead (its `ice-tcp forward`); repeat for more.",
)
@_POLICY
@capsule_option
@trace_option
def listen_command(
    where: str,
    secret: str | None,
    allowed: Sequence[Address],
    policy_file: Path | None,
    tracing: Tracing,
    capsule: Capsule | None,
) -> None:
    """Print a code, wait for who connects with it, and join standard input and output to theirs.

    Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used, 4 after a wrong code.
    """
    awaiting = _awaiting(where, secret, policy_file, tracing, capsule)

    async def serve() -> None:
        async with awaiting as meeting:
            _tell(_path(meeting))
            with suppress(SessionClosedError):
                await allow(meeting, allowed, _tell)

    _run(serve if allowed else lambda: _join(awaiting))


@click.command(name="connect")
@click.argument("code", required=False)
@_where
@_POLICY
@capsule_option
@trace_option
def connect_command(
    code: str | None, where: str, policy_file: Path | None, tracing: Tracing, capsule: Capsule | None
) -> None:
    """Join standard input and output to those of who listens under CODE.

    Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used, 4 for a wrong code.
    """
    reaching = _reaching(where, code, policy_file, tracing, capsule)
    _run(lambda: _join(reaching))


@click.command(name="forward")
@click.argument("code", required=False)
@click.option(
    "-L",
    "forwards",
    multiple=True,
    required=True,
    callback=_each(Forward.parse),
    metavar="PORT:HOST:PORT",
    help="A port here, and what it leads to there, as in 8080:localhost:80; repeat for more.",
)
@_where
@_POLICY
@capsule_option
@trace_option
def forward_command(
    code: str | None,
    forwards: Sequence[Forward],
    where: str,
    policy_file: Path | None,
    tracing: Tracing,
    capsule: Capsule | None,
) -> None:
    """Let local TCP ports lead to what the other side reaches, which runs `ice-tcp listen --forward HOST:PORT`.

    Until one side ends it. Everything is encrypted from here to there. Exit status: 3 if the rendezvous cannot be used,
    4 for a wrong code.
    """
    reaching = _reaching(where, code, policy_file, tracing, capsule)

    async def carry() -> None:
        async with reaching as meeting:
            _tell(_path(meeting))
            with suppress(SessionClosedError):
                await forward(meeting, forwards, _tell)

    _run(carry)


@click.command(name="send")
@click.argument("file", type=EXISTING_FILE)
@_where
@_SECRET
@_POLICY
@capsule_option
@trace_option
def send_command(
    file: Path, where: str, secret: str | None, policy_file: Path | None, tracing: Tracing, capsule: Capsule | None
) -> None:
    """Print a code, and send FILE to who runs `ice-tcp receive` with it.

    The file is encrypted from here to there, and compared at the end. Exit status: 1 if it did not arrive, 3 if the
    rendezvous cannot be used, 4 after a wrong code.
    """
    awaiting = _awaiting(where, secret, policy_file, tracing, capsule)

    async def send() -> None:
        async with awaiting as meeting, streaming(meeting, FILE) as (reader, writer):
            _tell(_path(meeting))
            with _bar(file.name) as progress:
                done = await offer_file(file, reader, writer, progress)
            _tell(_transferred("sent", done, meeting))

    _run(send)


@click.command(name="receive")
@click.argument("code", required=False)
@click.option("--into", type=_DIRECTORY, default=".", show_default=True, metavar="DIRECTORY", help="Where to put it.")
@_where
@_POLICY
@capsule_option
@trace_option
def receive_command(
    code: str | None, into: Path, where: str, policy_file: Path | None, tracing: Tracing, capsule: Capsule | None
) -> None:
    """Receive the file that `ice-tcp send` offers under CODE.

    What was cut off is kept as NAME.part: send and receive once more, into the same directory, and only the rest is
    sent. A file that is there is not overwritten. Exit status: 1 if it did not arrive, 3 if the rendezvous cannot be
    used, 4 for a wrong code.
    """
    reaching = _reaching(where, code, policy_file, tracing, capsule)

    async def receive() -> None:
        async with reaching as meeting, streaming(meeting, FILE) as (reader, writer):
            _tell(_path(meeting))
            with _bar("receiving") as progress:
                done = await take_file(into, reader, writer, progress)
            _tell(_transferred("received", done, meeting))

    _run(receive)


def _awaiting(
    where: str, secret: str | None, policy_file: Path | None, tracing: Tracing, capsule: Capsule | None
) -> Finding:
    """The meeting of the side that is there first."""
    policy = _policy(policy_file)
    if where == _STDIO:
        return _traced(
            tracing, partial(meet_by_hand, _tell_line, read_line, listens=True, policy=policy, capsule=capsule)
        )
    return _traced(
        tracing, partial(await_peer, _tell_code, rendezvous=where, secret=secret, policy=policy, capsule=capsule)
    )


def _reaching(
    where: str, code: str | None, policy_file: Path | None, tracing: Tracing, capsule: Capsule | None
) -> Finding:
    """The meeting of the side that comes to it."""
    policy = _policy(policy_file)
    if where == _STDIO:
        return _traced(
            tracing, partial(meet_by_hand, _tell_line, _ask_line, listens=False, policy=policy, capsule=capsule)
        )
    if code is None:
        raise click.UsageError("Missing argument 'CODE'")
    return _traced(tracing, partial(reach_peer, code, rendezvous=where, policy=policy, capsule=capsule))


@asynccontextmanager
async def _traced(tracing: Tracing, find: Callable[..., Finding]) -> AsyncIterator[Meeting]:
    with tracing.open() as trace:
        async with find(trace=trace) as meeting:
            yield meeting


async def _join(finding: Finding) -> None:
    async with finding as meeting, streaming(meeting) as (reader, writer):
        await pipe(reader, writer)


def _tell_line(line: str) -> None:
    _tell(f"give the other side this line, and paste theirs here:\n{line}")


async def _ask_line() -> str:
    _tell("paste the other side's line here:")
    return await read_line()


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """A bar on a terminal; nothing elsewhere."""
    texts = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    columns = (*texts, TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _transferred(what: str, done: Transferred, meeting: Meeting) -> str:
    resumed = f", of which {done.resumed_at} were there" if done.resumed_at else ""
    how = _path(meeting).removeprefix("connected ")
    return f"{what} {done.name}, {done.size} bytes{resumed}, {how}, SHA-256 {done.sha256}"


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
    return None if path is None else policy_for_command(path)
