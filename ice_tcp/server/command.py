"""``ice-tcp server``: the embedded server on the command line."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import ssl
from collections.abc import Iterable
from pathlib import Path

import click

from ice_tcp.net.interfaces import host_addresses
from ice_tcp.net.sockets import NetworkError
from ice_tcp.server.core.actions import Address, Leg, Listener
from ice_tcp.server.core.trace import Record
from ice_tcp.server.options import STUN_PORT, Limits, ServerOptions
from ice_tcp.server.peers import IPNetwork, PeerPolicy
from ice_tcp.server.server import Server

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
@click.option("--certificate", type=_FILE, help="PEM file with the certificate chain.")
@click.option("--key", type=_FILE, help="PEM file with its key, if that is not in the same file.")
@click.option("--realm", default="ice-tcp", help="The realm of the credentials.")
@click.option(
    "--user", "users", type=_account, metavar="NAME:PASSWORD", multiple=True, help="Who may relay; repeat for more."
)
@click.option("--users", "users_file", type=_FILE, help="File with name:password in each line.")
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
@click.option("--verbose", "-v", is_flag=True, help="Tell what happens.")
def command(
    *,
    hosts: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    users: tuple[tuple[str, str], ...],
    users_file: Path | None,
    secret: str | None,
    relay_hosts: tuple[str, ...],
    external_hosts: tuple[tuple[str, str], ...],
    allow_loopback: bool,
    allow_private: bool,
    allow_link_local: bool,
    allow_peer: tuple[IPNetwork, ...],
    deny_peer: tuple[IPNetwork, ...],
    user_quota: int,
    total_quota: int,
    max_lifetime: float,
    verbose: bool,
    **same: object,
) -> None:
    """Run a STUN and TURN server, for demos, tests and small set-ups.

    Without --user, --users or --secret it is a STUN server, and relays nothing.
    """
    try:
        accounts = dict([*users, *(_read_users(users_file) if users_file else ())])
        options = ServerOptions(
            hosts=hosts or default_hosts(),
            users=accounts,
            shared_secret=secret,
            relay_hosts=relay_hosts or None,
            external_hosts=dict(external_hosts),
            peers=PeerPolicy(
                loopback=allow_loopback,
                private=allow_private,
                link_local=allow_link_local,
                allow=allow_peer,
                deny=deny_peer,
            ),
            limits=Limits(allocations=total_quota, allocations_per_user=user_quota),
            default_lifetime=min(600.0, max_lifetime),
            max_lifetime=max_lifetime,
            **same,  # type: ignore[arg-type]  # the options that have the names and the types of the parameters
        )
        server = Server(options, tls=_tls(certificate, key), trace=_tell if verbose else None)
        asyncio.run(run_server(server))
    except (ValueError, OSError, NetworkError) as error:
        raise click.ClickException(str(error)) from error


async def run_server(server: Server) -> None:
    """Run until SIGINT or SIGTERM, and say where."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        for url in urls(server.listeners, relays=server.options.relays):
            click.echo(url)
        await stopped.wait()


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


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _tell(now: float, record: Record) -> None:
    click.echo(f"{now:.3f} {record}", err=True)
