"""``ice-tcp rendezvous``: the server on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from candidates.policy import Policy
from ice_tcp.operation import Certificate, Following, catch_signals, log_to_stderr
from ice_tcp.operation.metrics import Address, exposed, metrics_module, metrics_option
from ice_tcp.policy_option import EXISTING_FILE, given_options, policy_option
from ice_tcp.rendezvous.mailboxes import Mailboxes, MemoryMailboxes
from ice_tcp.rendezvous.server import DEFAULT_PORT, Limits, RendezvousServer

_OPTIONS = ("host", "port", "certificate", "key", "redis")
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
@metrics_option
@click.option("--verbose", "-v", is_flag=True, help="Tell what is refused.")
@click.pass_context
def command(
    context: click.Context, /, *, policy_file: Path | None, metrics: Address | None, verbose: bool, **_: object
) -> None:
    """Run a rendezvous, where two peers meet under a code and tell each other how to connect.

    It sees who meets whom and when, but not what they say. GET /health answers 200 while it runs.
    """
    given = given_options(context)
    log_to_stderr(verbose=verbose)
    following = Following(policy_file, (given.get("certificate"), given.get("key")))
    settings = _Settings.of(following.begin(), given)
    if settings.key is not None and settings.certificate is None:
        raise click.UsageError("--key needs --certificate")
    try:
        asyncio.run(_run(settings, given, following, metrics))
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides about a rendezvous, of a policy and a command line."""

    host: str | None
    port: int
    certificate: Path | None
    key: Path | None
    redis: str | None = field(repr=False)
    limits: Limits

    @staticmethod
    def of(policy: Policy, given: Mapping[str, Any]) -> _Settings:
        """What the policy says, and what the command line gives instead. Raises ValueError."""
        section = policy.rendezvous
        limits = {**dict(section.limits), **{name: given[name] for name in _LIMITS if name in given}}
        settings = _Settings(
            section.host,
            section.port,
            Path(section.certificate) if section.certificate is not None else None,
            # The policy's key belongs to the policy's certificate
            Path(section.key) if section.key is not None and "certificate" not in given else None,
            section.redis.get_secret_value() if section.redis is not None else None,
            Limits(**limits),
        )
        return replace(settings, **{name: given[name] for name in _OPTIONS if name in given})

    def fixed_changes(self, new: _Settings) -> list[str]:
        """The keys that a server which runs with these does not take from others."""
        changed = [name for name in ("host", "port", "redis") if getattr(self, name) != getattr(new, name)]
        return [*changed, "certificate"] if (self.certificate is None) is not (new.certificate is None) else changed


async def _run(settings: _Settings, given: Mapping[str, Any], following: Following, metrics: Address | None) -> None:
    """Until SIGINT or SIGTERM; follow the policy meanwhile."""
    stopped = catch_signals(following)
    following.note(settings.certificate, settings.key)
    certificate = Certificate(settings.certificate, settings.key) if settings.certificate is not None else None
    tls = certificate.context if certificate is not None else None
    mailboxes = _mailboxes(settings.redis)
    server = RendezvousServer(settings.host, settings.port, tls=tls, mailboxes=mailboxes, limits=settings.limits)

    def apply(policy: Policy) -> Sequence[str]:
        new = _Settings.of(policy, given)
        following.note(new.certificate, new.key)
        if certificate is not None and new.certificate is not None:
            certificate.load(new.certificate, new.key)
        server.limits = new.limits
        return settings.fixed_changes(new)

    counted = metrics_module().RendezvousMetrics(server).registry if metrics is not None else None
    async with server, exposed(counted, metrics):
        click.echo(f"{'ws' if tls is None else 'wss'}://{settings.host or 'localhost'}:{server.port}")
        await following.follow(apply, stopped)


def _mailboxes(redis: str | None) -> Mailboxes:
    if redis is None:
        return MemoryMailboxes()
    try:
        from ice_tcp.rendezvous.redis_store import RedisMailboxes
    except ImportError:
        raise click.ClickException("Redis needs its client: pip install 'ice-tcp[redis]'") from None
    return RedisMailboxes(redis)
