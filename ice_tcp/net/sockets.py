"""Sockets as ICE needs them: addresses, ports that a listener and its connectors share, causes of failure."""

from __future__ import annotations

import errno
import random
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure, PortRange
from ice_tcp.net.platform import NOTSENT_LOWAT, SHARE

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""What the socket module calls an address, for IPv4 and IPv6."""

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked of the kernel for a UDP socket, whose default holds 92 datagrams of 1200 bytes."""
UNSENT_BYTES = 128 * 1024
"""TCP_NOTSENT_LOWAT: more waits in our own queue, where STUN may overtake it."""
_BACKLOG = 128

FAILURES: dict[int, Failure] = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,
    errno.ECONNABORTED: Failure.RESET,
    errno.EPIPE: Failure.RESET,
    errno.ENOTCONN: Failure.RESET,
    errno.ETIMEDOUT: Failure.TIMED_OUT,
    errno.ENETUNREACH: Failure.UNREACHABLE,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.ENETDOWN: Failure.UNREACHABLE,
    errno.EHOSTDOWN: Failure.UNREACHABLE,
    errno.EACCES: Failure.NOT_PERMITTED,
    errno.EPERM: Failure.NOT_PERMITTED,
    errno.EADDRNOTAVAIL: Failure.ADDRESS_TAKEN,
    errno.EADDRINUSE: Failure.ADDRESS_TAKEN,
    errno.EMFILE: Failure.NO_RESOURCES,
    errno.ENFILE: Failure.NO_RESOURCES,
    errno.ENOBUFS: Failure.NO_RESOURCES,
    errno.ENOMEM: Failure.NO_RESOURCES,
    errno.EPROTO: Failure.TLS,
}
"""What an error of a connection means; anything else is OTHER."""

# While binding, two of them mean something else.
_BIND_FAILURES = {errno.EADDRNOTAVAIL: Failure.ADDRESS_UNAVAILABLE, errno.EADDRINUSE: Failure.PORTS_TAKEN}


class NetworkError(Exception):
    """The network could not do what was asked; ``failure`` says why, ``text`` for people."""

    def __init__(self, failure: Failure, text: str = "") -> None:
        self.failure = failure
        self.text = text or failure_text(failure)
        super().__init__(self.text)


def failure_text(failure: Failure) -> str:
    """A failure for people, where nothing better is known."""
    return failure.value.replace("-", " ")


def failure_of(code: int | None) -> Failure:
    """The cause that an ``errno`` of a connection stands for."""
    return FAILURES.get(code or 0, Failure.OTHER)


def _bind_failure(error: OSError) -> NetworkError:
    return NetworkError(_BIND_FAILURES.get(error.errno or 0, failure_of(error.errno)))


# Addresses


def socket_address(address: TransportAddress, scope: int = 0) -> SocketAddress:
    """The form that the socket module takes; ``scope`` is the zone of a link-local IPv6 address that names none.

    Raises NetworkError for a name, or a zone that this host does not have.
    """
    if address.family == 4:
        return address.host, address.port
    if address.family is None:
        raise NetworkError(Failure.UNREACHABLE)
    host, _, zone = address.host.partition("%")
    try:
        named = socket.if_nametoindex(zone) if zone else 0
    except OSError:
        raise NetworkError(Failure.ADDRESS_UNAVAILABLE) from None
    return host, address.port, 0, (named or scope) if address.is_link_local else 0


def check_families(host: str, remote: TransportAddress) -> None:
    """Raises NetworkError if no packet goes from ``host`` to ``remote``: IPv4 and IPv6 are two networks."""
    if remote.family not in (None, TransportAddress(host, 0).family):
        raise NetworkError(Failure.UNREACHABLE, f"{remote.host} cannot be reached from {host}")


def transport_address(address: SocketAddress) -> TransportAddress:
    """The address of a peer, without zone: the socket that it came to tells the link."""
    return TransportAddress(address[0].partition("%")[0], address[1])


def scope_of(sock: socket.socket) -> int:
    """The zone that an IPv6 socket is bound to, 0 if it is bound to none."""
    address = sock.getsockname()
    return int(address[3]) if sock.family is socket.AF_INET6 else 0


# Ports


class PortLeases:
    """The TCP ports that sockets of this process use, with the number of those that share each.

    The kernel refuses a plain bind to a port in use; but ports of past connections are bound in a second try that
    the kernel lets pass, and then this says which of them are still ours.
    """

    def __init__(self) -> None:
        self._users: Counter[tuple[str, int]] = Counter()

    def take(self, host: str, port: int) -> None:
        self._users[host, port] += 1

    def release(self, host: str, port: int) -> None:
        self._users[host, port] -= 1
        if not self._users[host, port]:
            del self._users[host, port]

    def __contains__(self, place: tuple[str, int]) -> bool:
        return place in self._users


LEASES = PortLeases()
"""One for the process: ports belong to the process, whichever agent uses them."""


def bind_udp(host: str, ports: PortRange | None, rng: random.Random | None = None) -> socket.socket:
    """A non-blocking UDP socket on ``host``, on a port of ``ports`` in random order (in order without ``rng``).

    Raises NetworkError.
    """
    sock = _bind_one_of(socket.SOCK_DGRAM, host, _order(ports, rng))
    with suppress(OSError):  # the kernel gives what its limits allow
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return sock


def bind_listener(host: str, ports: PortRange | None, rng: random.Random | None = None) -> socket.socket:
    """A non-blocking listening socket, whose port `bind_connector` may share.

    The first socket of a port binds plainly and shares only then: with SO_REUSEPORT set before, another process of
    the same user could hold the port already, and would get half of the connections. Raises NetworkError.
    """
    order = _order(ports, rng)
    try:
        sock = _bind_one_of(socket.SOCK_STREAM, host, order)
    except NetworkError as error:
        if ports is None or error.failure is not Failure.PORTS_TAKEN:
            raise
        # Connections that ended lately, or whose listener is gone, hold a port without listening there.
        free = [port for port in order if (host, port) not in LEASES]
        sock = _bind_one_of(socket.SOCK_STREAM, host, free, (socket.SO_REUSEADDR,))
    try:
        share_port(sock)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _bind_failure(error) from None
    return sock


def bind_connector(
    host: str, listener: socket.socket | None, ports: PortRange | None = None, rng: random.Random | None = None
) -> socket.socket:
    """A non-blocking TCP socket to connect with, on the port of ``listener``, else on one of ``ports`` (any if None).

    Raises NetworkError.
    """
    if listener is None:
        return _bind_one_of(socket.SOCK_STREAM, host, _order(ports, rng))
    return _bind_one_of(socket.SOCK_STREAM, host, (listener.getsockname()[1],), SHARE)


def share_port(sock: socket.socket) -> None:
    """Let sockets of this process that do the same bind to the port of ``sock``."""
    for option in SHARE:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)


def prepare_stream(sock: socket.socket) -> None:
    """Options of every connection: no delay for small frames, little unsent data in the kernel."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if NOTSENT_LOWAT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)


def _order(ports: PortRange | None, rng: random.Random | None) -> list[int]:
    if ports is None:
        return [0]
    every = range(ports[0], ports[1] + 1)
    return rng.sample(every, len(every)) if rng else list(every)


def _bind_one_of(
    kind: socket.SocketKind, host: str, ports: Iterable[int], options: Iterable[int] = ()
) -> socket.socket:
    local = TransportAddress(host, 0)
    try:
        sock = socket.socket(socket.AF_INET6 if local.family == 6 else socket.AF_INET, kind)
    except OSError as error:
        raise _bind_failure(error) from None
    try:
        sock.setblocking(False)
        if local.family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        _bind_first_free(sock, local, ports)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_first_free(sock: socket.socket, local: TransportAddress, ports: Iterable[int]) -> None:
    for port in ports:
        try:
            sock.bind(socket_address(TransportAddress(local.host, port)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _bind_failure(error) from None
        else:
            return
    raise NetworkError(Failure.PORTS_TAKEN)
