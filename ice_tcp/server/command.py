"""``ice-tcp server``: the embedded server on the command line."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path

import click

from candidates.policy import Policy
from ice_tcp.net.interfaces import host_addresses
from ice_tcp.net.sockets import NetworkError
from ice_tcp.operation import Certificate, Following, catch_signals, log_to_stderr
from ice_tcp.operation.metrics import exposed, metrics_module, metrics_option
from ice_tcp.policy_option import EXISTING_FILE, given_options, policy_option
from ice_tcp.server.core.actions import Address, Leg, Listener
from ice_tcp.server.core.trace import Record, TraceSink
from ice_tcp.server.options import STUN_PORT, Limits, ServerOptions
from ice_tcp.server.peers import IPNetwork
from ice_tcp.server.policy import KEYS, options_of, overridden
from ice_tcp.server.server import Server


def _network(value: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _ports(value: str) -> tuple[int, int]:
    first, dash, last = value.partition("-")
    if not dash or not first.isdigit() or not last.isdigit():
        raise click.BadParameter(f"{value!r} is not two ports as in 49152-65535")
    return int(first), int(last)


def _address(value: str) -> Address:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit():
        raise click.BadParameter(f"{value!r} is not an address and a port")
    return host.strip("[]"), int(port)


def _pair(value: str, between: str) -> tuple[str, str]:
    left, found, right = value.partition(between)
    if not left or not found or not right:
        raise click.BadParameter(f"not two texts with {between!r} between them")  # the value may be a password
    return left, right


def _account(value: str) -> tuple[str, str]:
    return _pair(value, ":")


def _mapping(value: str) -> tuple[str, str]:
    return _pair(value, "=")


@click.command(name="server", context_settings={"show_default": True})
@policy_option("Do what its section `server` says; options here override it. It is read again when it changes.")
@click.option(
    "--listen",
    "hosts",
    multiple=True,
    metavar="ADDRESS",
    help="Where to listen; repeat for more.  [default: the addresses of the default route]",
)
@click.option("--port", type=int, default=STUN_PORT, help="UDP and TCP port; 0 for any.")
@click.option("--alternate-port", type=int, help="A second one; with two addresses it makes an RFC 5780 server.")
@click.option("--tls-port", type=int, help="TLS port, e.g. 5349 or 443; needs --certificate.")
@click.option("--certificate", type=EXISTING_FILE, help="PEM file with the certificate chain.")
@click.option("--key", type=EXISTING_FILE, help="PEM file with its key, if that is not in the same file.")
@click.option("--realm", default="ice-tcp", help="The realm of the credentials.")
@click.option(
    "--user", "users", type=_account, metavar="NAME:PASSWORD", multiple=True, help="Who may relay; repeat for more."
)
@click.option("--users", "users_file", type=EXISTING_FILE, help="File with name:password in each line.")
@click.option(
    "--secret", envvar="ICE_TCP_SERVER_SECRET", help="Shared secret of short-lived credentials.", show_envvar=True
)
@click.option(
    "--relay-address",
    "relay_hosts",
    multiple=True,
    metavar="ADDRESS",
    help="Where peers are met; repeat for the other family.  [default: where it listens]",
)
@click.option(
    "--external-address",
    "external_hosts",
    type=_mapping,
    metavar="RELAY=PUBLIC",
    multiple=True,
    help="What clients are told instead of a relay address behind a one-to-one NAT.",
)
@click.option("--relay-ports", type=_ports, default="49152-65535", metavar="FIRST-LAST", help="Ports of relays.")
@click.option("--tcp-relay/--no-tcp-relay", default=True, help="TCP allocations (RFC 6062).")
@click.option("--allow-loopback", is_flag=True, help="Relay to peers on loopback.")
@click.option("--allow-private", is_flag=True, help="... on private networks.")
@click.option("--allow-link-local", is_flag=True, help="... on the same link.")
@click.option(
    "--allow-peer", type=_network, metavar="NETWORK", multiple=True, help="... in this network, whatever else is said."
)
@click.option("--deny-peer", type=_network, metavar="NETWORK", multiple=True, help="Not to peers in this network.")
@click.option(
    "--alternate-server",
    "alternate_servers",
    type=_address,
    metavar="ADDRESS:PORT",
    multiple=True,
    help="Send clients there (300 Try Alternate).",
)
@click.option("--redirect-from", type=int, default=0, help="... once there are so many allocations.")
@click.option("--user-quota", type=int, default=Limits().allocations_per_user, help="Relayed addresses of one user.")
@click.option("--total-quota", type=int, default=Limits().allocations, help="Relayed addresses of all.")
@click.option("--max-lifetime", type=float, default=3600.0, help="Of an allocation, in seconds.")
@metrics_option
@click.option("--verbose", "-v", is_flag=True, help="Tell what happens.")
@click.pass_context
def command(
    context: click.Context, /, *, policy_file: Path | None, metrics: Address | None, verbose: bool, **_: object
) -> None:
    """Run a STUN and TURN server, for demos, tests and small set-ups.

    Without --user, --users or --secret, here or in the policy, it is a STUN server, and relays nothing.
    """
    log_to_stderr(verbose=verbose)
    arguments = _Arguments(context)
    following = Following(policy_file, arguments.files)
    policy = following.begin()
    try:
        options = arguments.options(policy)
        certificate = arguments.certificate(policy, following)
        counted = metrics_module().ServerMetrics() if metrics is not None else None
        sinks = [*([_tell] if verbose else []), *([counted.record] if counted is not None else [])]
        server = Server(options, tls=certificate.context if certificate is not None else None, trace=_all_of(sinks))
        registry = None
        if counted is not None:
            counted.watch(server)
            registry = counted.registry
        apply = arguments.apply(server, certificate, following)
        asyncio.run(run_server(server, following, apply, exposed(registry, metrics)))
    except (ValueError, OSError, NetworkError) as error:
        raise click.ClickException(str(error)) from error


class _Arguments:
    """What the command line gives, and what comes of it with a policy."""

    def __init__(self, context: click.Context) -> None:
        self._given = given_options(context)
        for name in ("policy_file", "metrics", "verbose"):
            self._given.pop(name, None)
        self._certificate: Path | None = self._given.pop("certificate", None)
        self._key: Path | None = self._given.pop("key", None)
        self._default_hosts = cache(default_hosts)  # else a new address would ask for a restart
        self._users_file: Path | None = self._given.pop("users_file", None)

    @property
    def files(self) -> tuple[Path | None, ...]:
        """Those that are named."""
        return self._certificate, self._key, self._users_file

    def options(self, policy: Policy) -> ServerOptions:
        """Raises ValueError or OSError."""
        changes = dict(self._given)
        if "secret" in changes:
            changes["shared_secret"] = changes.pop("secret")
        if "external_hosts" in changes:
            changes["external_hosts"] = dict(changes["external_hosts"])
        if "users" in changes or self._users_file is not None:
            listed = _read_users(self._users_file) if self._users_file is not None else ()
            changes["users"] = dict([*changes.get("users", ()), *listed])
        return overridden(options_of(policy.server, self._default_hosts), changes)

    def certificate(self, policy: Policy, following: Following) -> Certificate | None:
        """The one that is named, watched. Raises OSError."""
        chain, key = self._certificate_files(policy)
        following.note(chain, key)
        return Certificate(chain, key) if chain is not None else None

    def apply(
        self, server: Server, certificate: Certificate | None, following: Following
    ) -> Callable[[Policy], Sequence[str]]:
        """What heeds another policy while the server runs."""

        def apply(policy: Policy) -> Sequence[str]:
            options = self.options(policy)
            chain, key = self._certificate_files(policy)
            following.note(chain, key)
            if certificate is not None and chain is not None:
                certificate.load(chain, key)
            return [KEYS.get(name, name) for name in server.change(options)]

        return apply

    def _certificate_files(self, policy: Policy) -> tuple[Path | None, Path | None]:
        if self._certificate is not None:
            return self._certificate, self._key
        chain, key = policy.server.certificate, policy.server.key
        return Path(chain) if chain is not None else None, Path(key) if key is not None else self._key


async def run_server(
    server: Server,
    following: Following,
    apply: Callable[[Policy], Sequence[str]],
    beside: AbstractAsyncContextManager[object],
) -> None:
    """Run until SIGINT or SIGTERM, and say where; follow the policy meanwhile, and do what is ``beside`` it."""
    stopped = catch_signals(following)
    async with server, beside:
        for url in urls(server.listeners, relays=server.options.relays):
            click.echo(url)
        await following.follow(apply, stopped)


def urls(listeners: Iterable[Listener], *, relays: bool) -> list[str]:
    """How policies name these listeners (RFC 7064, RFC 7065)."""
    return list(dict.fromkeys(_url(listener, relays) for listener in listeners))


def _url(listener: Listener, relays: bool) -> str:
    host, port = listener.address
    scheme = ("turn" if relays else "stun") + ("s" if listener.leg is Leg.TLS else "")
    query = f"?transport={listener.leg}" if relays and listener.leg is not Leg.TLS else ""
    return f"{scheme}:[{host}]:{port}{query}" if ":" in host else f"{scheme}:{host}:{port}{query}"


def default_hosts() -> tuple[str, ...]:
    """The first address of each family by which the default route leaves; loopback if there is none."""
    hosts = {address.ip.version: address.host for address in reversed(host_addresses()) if address.default_route}
    return tuple(host for _, host in sorted(hosts.items())) or ("127.0.0.1",)


def _read_users(path: Path) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            name, colon, password = line.partition(":")
            if not name or not colon or not password:
                raise ValueError(f"{path}:{number}: not name:password")
            yield name, password


def _all_of(sinks: Sequence[TraceSink]) -> TraceSink | None:
    """One sink for all of them."""

    def tell(now: float, record: Record) -> None:
        for sink in sinks:
            sink(now, record)

    return tell if sinks else None


def _tell(now: float, record: Record) -> None:
    click.echo(f"{now:.3f} {record}", err=True)
