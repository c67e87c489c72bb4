"""``ice-tcp punch``: a TCP stream between two NATs, for pipes."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import click

from ice_tcp.punching.moments import parse_moment
from ice_tcp.punching.port import ANY_IPV4, ANY_IPV6, PunchPort, Streams

_CHUNK = 64 * 1024


def _endpoint(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """Callback of an option: a host and a port."""
    return None if text is None else _parse_endpoint(text, ctx, param)


def _parse_endpoint(
    text: str, ctx: click.Context | None = None, param: click.Parameter | None = None
) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not host or not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text!r} is not HOST:PORT", ctx, param)
    return host.strip("[]"), int(port)


def _moment(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_moment(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command(short_help="Connect two NATed hosts over TCP, without ICE.")
@click.argument("peer", metavar="[HOST:PORT]", required=False, callback=_endpoint)
@click.option("--local-port", type=click.IntRange(0, 65535), default=0, help="The port that the peer was told of.")
@click.option("--local-host", metavar="ADDRESS", help="The local address; any by default.")
@click.option("--stun", metavar="HOST:PORT", callback=_endpoint, help="Ask this STUN server for the mapped address.")
@click.option("--at", metavar="TIME", callback=_moment, help="Connect at 12:34:00, or at next-minute.")
@click.option("--in", "countdown", type=click.FloatRange(0), metavar="SECONDS", help="Connect after a countdown.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="In seconds.")
@click.option(
    "--secret", envvar="ICE_TCP_PUNCH_SECRET", show_envvar=True, help="Both ends must know it; at least 16 characters."
)
def command(
    peer: tuple[str, int] | None,
    local_port: int,
    local_host: str | None,
    stun: tuple[str, int] | None,
    at: float | None,
    countdown: float | None,
    timeout: float,
    secret: str | None,
) -> None:
    """Connect to a peer that connects to us at the same moment: a TCP simultaneous open through the NATs of both.

    HOST:PORT is the peer's address as its NAT shows it; without it, it is asked for. Then standard input goes to the
    peer, and what the peer sends to standard output. Without --secret, whoever sends from HOST:PORT is the peer; the
    stream is not encrypted in any case.
    """
    if at is not None and countdown is not None:
        raise click.UsageError("--at and --in exclude each other")
    host = local_host or (ANY_IPV6 if peer is not None and ":" in peer[0] else ANY_IPV4)
    key = None if secret is None else secret.encode()
    try:
        asyncio.run(
            _main(partial(PunchPort, local_port, host=host, timeout=timeout, secret=key), peer, stun, at, countdown)
        )
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error) or type(error).__name__) from None
    except KeyboardInterrupt:
        sys.exit(130)


async def _main(
    make_port: Callable[[], PunchPort],
    peer: tuple[str, int] | None,
    stun: tuple[str, int] | None,
    at: float | None,
    countdown: float | None,
) -> None:
    async with make_port() as port, _standard_input() as read:
        _say(f"listening on {port.address}")
        if stun is not None:
            _say(f"mapped to {await port.mapped_address(*stun)}, says {stun[0]}")
        if peer is None:
            _say("the peer's HOST:PORT:")
            peer = _parse_endpoint((await read()).decode(errors="replace"))
        if countdown is not None:
            at = time.time() + countdown
        if at is not None:
            _say(f"connecting at {datetime.fromtimestamp(at).astimezone():%H:%M:%S}")
        streams = await port.connect(*peer, at=at)
        _say(f"connected to {peer[0]}:{peer[1]}")
        await _pipe(streams, read)


def _say(text: str) -> None:
    click.echo(text, err=True)


async def _pipe(streams: Streams, read: Callable[[], Awaitable[bytes]]) -> None:
    """Until the peer has ended the stream; the end of standard input ends our half of it."""
    reader, writer = streams

    async def send() -> None:
        while data := await read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    try:
        while data := await reader.read(_CHUNK):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


@asynccontextmanager
async def _standard_input() -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """Reads what is there of standard input; a line if it is a terminal. Empty at its end."""
    descriptor = sys.stdin.fileno()
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)):
        yield lambda: asyncio.to_thread(os.read, descriptor, _CHUNK)  # a file never lets one wait for long
        return
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        yield lambda: reader.read(_CHUNK)
    finally:
        pipe.close()
