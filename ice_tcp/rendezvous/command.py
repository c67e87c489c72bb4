"""``ice-tcp rendezvous``: the server on the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from pathlib import Path

import click

from ice_tcp.rendezvous.mailboxes import Mailboxes, MemoryMailboxes
from ice_tcp.rendezvous.server import DEFAULT_PORT, Limits, RendezvousServer

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="rendezvous", context_settings={"show_default": True})
@click.option("--host", help="Where to listen.  [default: everywhere]", show_default=False)
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, help="TCP port; 0 for any.")
@click.option("--certificate", type=_FILE, help="PEM file with the certificate chain: serve wss:// with it.")
@click.option("--key", type=_FILE, help="PEM file with its key, if that is not in the same file.")
@click.option("--redis", metavar="URL", help="Share mailboxes with other instances, as in redis://localhost:6379/0.")
@click.option("--connections", type=click.IntRange(1), default=Limits().connections, help="Of all clients, at most.")
@click.option(
    "--connections-per-host",
    type=click.IntRange(1),
    default=Limits().connections_per_host,
    help="Of one address, at most.",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell what is refused.")
def command(
    *,
    host: str | None,
    port: int,
    certificate: Path | None,
    key: Path | None,
    redis: str | None,
    connections: int,
    connections_per_host: int,
    verbose: bool,
) -> None:
    """Run a rendezvous, where two peers meet under a code and tell each other how to connect.

    It sees who meets whom and when, but not what they say. GET /health answers 200 while it runs.
    """
    if key is not None and certificate is None:
        raise click.UsageError("--key needs --certificate")
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    limits = Limits(connections=connections, connections_per_host=connections_per_host)
    try:
        asyncio.run(_run(host, port, _tls(certificate, key), redis, limits))
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


async def _run(host: str | None, port: int, tls: ssl.SSLContext | None, redis: str | None, limits: Limits) -> None:
    """Until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with RendezvousServer(host, port, tls=tls, mailboxes=_mailboxes(redis), limits=limits) as server:
        click.echo(f"{'wss' if tls is not None else 'ws'}://{host or 'localhost'}:{server.port}")
        await stopped.wait()


def _mailboxes(redis: str | None) -> Mailboxes:
    if redis is None:
        return MemoryMailboxes()
    try:
        from ice_tcp.rendezvous.redis_store import RedisMailboxes
    except ImportError:
        raise click.ClickException("Redis needs its client: pip install 'ice-tcp[redis]'") from None
    return RedisMailboxes(redis)


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
