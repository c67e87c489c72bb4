"""``ice-tcp rendezvous``: the server on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from candidates.policy import Policy, Rendezvous
from ice_tcp.operation import Certificate, Following, catch_signals, log_to_stderr
from ice_tcp.policy_option import EXISTING_FILE, policy_option
from ice_tcp.rendezvous.mailboxes import Mailboxes, MemoryMailboxes
from ice_tcp.rendezvous.server import DEFAULT_PORT, Limits, RendezvousServer

_LIMITS = ("connections", "connections_per_host")


@click.command(name="rendezvous", context_settings={"show_default": True})
@policy_option("Do what its section `rendezvous` says; options here override it. It is read again when it changes.")
@click.option("--host", help="Where to listen.  [default: everywhere]", show_default=False)
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, help="TCP port; 0 for any.")
@click.option("--certificate", type=EXISTING_FILE, help="PEM file with the certificate chain: serve wss:// with it.")
@click.option("--key", type=EXISTING_FILE, help="PEM file with its key, if that is not in the same file.")
@click.option("--redis", metavar="URL", help="Share mailboxes with other instances, as in redis://localhost:6379/0.")
@click.option("--connections", type=click.IntRange(1), default=Limits().connections, help="Of all clients, at most.")
@click.option(
    "--connections-per-host",
    type=click.IntRange(1),
    default=Limits().connections_per_host,
    help="Of one address, at most.",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell what is refused.")
@click.pass_context
def command(context: click.Context, /, *, policy_file: Path | None, verbose: bool, **options: Any) -> None:
    """Run a rendezvous, where two peers meet under a code and tell each other how to connect.

    It sees who meets whom and when, but not what they say. GET /health answers 200 while it runs.
    """
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    log_to_stderr(verbose=verbose)
    following = Following(policy_file, (given.get("certificate"), given.get("key")))
    settings = _settings(following.begin(), given)
    if settings["key"] is not None and settings["certificate"] is None:
        raise click.UsageError("--key needs --certificate")
    try:
        asyncio.run(_run(settings, given, following))
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _settings(policy: Policy, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the policy says, by the names of its keys, and what the command line gives instead."""
    section: Rendezvous = policy.rendezvous
    settings: dict[str, Any] = {name: getattr(section, name) for name in ("host", "port", "certificate", "key")}
    settings["redis"] = section.redis.get_secret_value() if section.redis is not None else None
    if "certificate" in given:
        settings["key"] = None  # the policy's belongs to another
    limits = {**dict(section.limits), **{name: given[name] for name in _LIMITS if name in given}}
    return {**settings, **{name: given[name] for name in given if name in settings}, "limits": Limits(**limits)}


async def _run(settings: Mapping[str, Any], given: Mapping[str, Any], following: Following) -> None:
    """Until SIGINT or SIGTERM; follow the policy meanwhile."""
    stopped = catch_signals(following)
    certificate = Certificate(*_certificate_files(settings, following)) if settings["certificate"] is not None else None
    server = RendezvousServer(
        settings["host"],
        settings["port"],
        tls=certificate.context if certificate is not None else None,
        mailboxes=_mailboxes(settings["redis"]),
        limits=settings["limits"],
    )

    def apply(policy: Policy) -> Sequence[str]:
        new = _settings(policy, given)
        if certificate is not None and new["certificate"] is not None:
            certificate.load(*_certificate_files(new, following))
        server.limits = new["limits"]
        changed = [name for name in ("host", "port", "redis") if new[name] != settings[name]]
        return changed + ["certificate"] * ((new["certificate"] is None) is not (certificate is None))

    async with server:
        click.echo(f"{'ws' if certificate is None else 'wss'}://{settings['host'] or 'localhost'}:{server.port}")
        await following.follow(apply, stopped)


def _certificate_files(settings: Mapping[str, Any], following: Following) -> tuple[Path, Path | None]:
    """Those that are named, watched."""
    certificate, key = settings["certificate"], settings["key"]
    files = Path(certificate), Path(key) if key is not None else None
    following.note(*files)
    return files


def _mailboxes(redis: str | None) -> Mailboxes:
    if redis is None:
        return MemoryMailboxes()
    try:
        from ice_tcp.rendezvous.redis_store import RedisMailboxes
    except ImportError:
        raise click.ClickException("Redis needs its client: pip install 'ice-tcp[redis]'") from None
    return RedisMailboxes(redis)
