"""The ports that a server listens on."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from ice_tcp.net.sockets import NetworkError, bind_udp
from ice_tcp.server.core.actions import Leg, Listener
from ice_tcp.server.options import ServerOptions

_BACKLOG = 256
_TRIES = 16
"""For a port that is free in every way that it is needed, if any will do."""


def bind_listeners(options: ServerOptions) -> list[tuple[Listener, socket.socket]]:
    """Bind all listeners, on the same ports at every host (RFC 5780 s6). Raises OSError or NetworkError."""
    bound: list[tuple[Listener, socket.socket]] = []
    try:
        for legs, port in _ports(options):
            bound += _bind_port(options.hosts, legs, port)
    except BaseException:
        _close(bound)
        raise
    return bound


def _ports(options: ServerOptions) -> Iterable[tuple[tuple[Leg, ...], int]]:
    for legs, ports in (
        ((Leg.UDP, Leg.TCP), (options.port, options.alternate_port)),
        ((Leg.TLS,), (options.tls_port, options.alternate_tls_port)),
    ):
        for port in ports:
            if port is not None:
                yield legs, port


def _bind_port(hosts: Iterable[str], legs: tuple[Leg, ...], port: int) -> list[tuple[Listener, socket.socket]]:
    for remaining in reversed(range(_TRIES)):
        bound: list[tuple[Listener, socket.socket]] = []
        chosen = port
        try:
            for host in hosts:
                for leg in legs:
                    sock = _bind(host, leg, chosen)
                    chosen = sock.getsockname()[1]
                    bound.append((Listener(leg, (host, chosen)), sock))
        except (OSError, NetworkError):
            _close(bound)
            if port or not remaining:
                raise
        else:
            return bound
    raise AssertionError("the last try raises")


def _bind(host: str, leg: Leg, port: int) -> socket.socket:
    if leg is Leg.UDP:
        return bind_udp(host, (port, port) if port else None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    sock.setblocking(False)
    return sock


def _close(bound: Iterable[tuple[Listener, socket.socket]]) -> None:
    for _, sock in bound:
        sock.close()
