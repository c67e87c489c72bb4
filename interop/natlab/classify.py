"""Is a box what its name says? Mapping and filtering over UDP and TCP (RFC 4787, RFC 5382, RFC 5780), and each option.

Nothing here waits for something not to happen: packets keep their order on the line, so what was sent before an
exchange on a known-good connection has arrived after it, or never will.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from interop.natlab.kinds import Box, Dependence, LabError, Option, Ports, Site
from interop.natlab.namespaces import inside, run
from interop.natlab.rules import TIMEOUTS
from interop.natlab.topology import HOST, LEFT, SERVER, SERVER_ADDRESSES, SERVER_ADDRESSES_6
from interop.natlab.world import World

Endpoint: TypeAlias = tuple[str, int]

UDP, TCP = "udp", "tcp"
_OPEN_PORT: Final = 443
"""Every kind lets TCP out to it."""
_PORTS: Final = (3478, 3479)
_SILENT_PORT: Final = 9
"""The server drops SYNs to it, and answers all else."""
_NOBODY_PORT: Final = 7
_PATIENCE: Final = 5.0
"""Seconds for what must come; a lab that takes longer is broken."""
_ROUNDS: Final = 3
"""Round trips, within which a connection would be open."""

_SILENCE: Final = f"""table inet silence {{
 chain input {{
  type filter hook input priority 0
  tcp dport {_SILENT_PORT} tcp flags & (syn|ack) == syn drop
 }}
}}"""


@dataclass(slots=True)
class Findings:
    """What was measured of a site. ``mapping`` and ``filtering`` are by transport; None means that nothing gets out."""

    mapping: dict[str, Dependence | None] = field(default_factory=dict)
    filtering: dict[str, Dependence | None] = field(default_factory=dict)
    preserves_ports: dict[str, bool] = field(default_factory=dict)
    refuses: bool | None = None
    """An unsolicited SYN is answered with RST."""
    simultaneous_open: bool | None = None
    """A SYN gets in where one went out; None where that cannot be aimed at."""
    hairpin: bool | None = None
    forgets: bool | None = None
    """A mapping ended after it was idle; None: not asked."""


def classify(world: World, site: Site) -> Findings:
    """Measure the left site of a world in which no servers run. Blocks for some round trips. Raises LabError."""
    with ExitStack() as stack:
        probe = _Probe(world, site, stack)
        findings = Findings()
        for transport in (UDP, TCP):
            probe.behaviour(transport, findings)
        probe.options(findings)
        return findings


def mismatches(site: Site, findings: Findings) -> list[str]:
    """What is not as the site's name says; empty for a site that can be trusted."""
    wanted: dict[str, object] = {}
    found: dict[str, object] = {}
    for transport in (UDP, TCP):
        blocked = Option.ONLY_443 in site.options or (transport == UDP and Option.NO_UDP in site.options)
        preserved = all(box.ports is Ports.PRESERVED for box in site.boxes)
        wanted[f"{transport} mapping"] = None if blocked else site.mapping
        found[f"{transport} mapping"] = findings.mapping[transport]
        if not blocked:
            if transport == UDP or Option.NO_SO not in site.options:
                wanted[f"{transport} filtering"] = site.filtering
                found[f"{transport} filtering"] = findings.filtering[transport]
            wanted[f"{transport} ports preserved"] = preserved
            found[f"{transport} ports preserved"] = findings.preserves_ports[transport]
    wanted["answers RST"] = _should_refuse(site)
    found["answers RST"] = findings.refuses
    if findings.simultaneous_open is not None:
        wanted["simultaneous open"] = Option.NO_SO not in site.options
        found["simultaneous open"] = findings.simultaneous_open
    if findings.hairpin is not None:
        wanted["hairpin"] = Option.HAIRPIN in site.options
        found["hairpin"] = findings.hairpin
    if findings.forgets is not None:
        wanted["forgets idle mappings"] = True
        found["forgets idle mappings"] = findings.forgets
    return [f"{what}: {found[what]}, not {wanted[what]}" for what in wanted if wanted[what] != found[what]]


def _should_refuse(site: Site) -> bool:
    if site.carrier is not None:
        return False  # the carrier's box drops it
    return site.kind.box is Box.NONE or bool({Option.RST, Option.OWN_STACK} & site.options)


class _Probe:
    """Sockets on the host and on the server, and one connection between them whose round trips are the clock."""

    def __init__(self, world: World, site: Site, stack: ExitStack) -> None:
        self._site = site
        self._stack = stack
        self._host = world.nodes[LEFT].namespace
        self._server = world.nodes[SERVER].namespace
        is_ipv6 = 4 not in site.families
        self._family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        self._here = world.nodes[LEFT].addresses[HOST][-1 if is_ipv6 else 0].partition("/")[0]
        self._there = SERVER_ADDRESSES_6 if is_ipv6 else SERVER_ADDRESSES
        self._public = self._here if is_ipv6 else world.topology.public(LEFT)[0]
        run("nft", "-f", "-", text=_SILENCE, namespace=self._server)
        places = [(self._there[0], _PORTS[0]), (self._there[0], _PORTS[1]), (self._there[1], _PORTS[0])]
        self._udp_servers = {place: self._datagrams(self._server, place) for place in places}
        self._tcp_servers = {place: self._listener(self._server, place) for place in places}
        self._clock = self._connection(self._listener(self._server, (self._there[0], _OPEN_PORT)))

    # Mapping and filtering

    def behaviour(self, transport: str, findings: Findings) -> None:
        mapped = self._udp_mappings() if transport == UDP else self._tcp_mappings()
        if mapped is None:
            findings.mapping[transport] = findings.filtering[transport] = None
            return
        local_port, (first, other_port, other_address) = mapped
        findings.mapping[transport] = _dependence(first == other_port, first == other_address)
        findings.preserves_ports[transport] = local_port == first[1]
        port_passes, address_passes = self._udp_filter() if transport == UDP else self._tcp_filter()
        findings.filtering[transport] = _dependence(port_passes, address_passes)

    def _udp_mappings(self) -> tuple[int, list[Endpoint]] | None:
        sock = self._datagrams(self._host, (self._here, 0))
        for place in self._udp_servers:
            sock.sendto(b"mapping", place)
        self._round_trips(1)
        found = [_source(server) for server in self._udp_servers.values()]
        if not any(found):
            return None
        return sock.getsockname()[1], [each for each in found if each is not None]

    def _tcp_mappings(self) -> tuple[int, list[Endpoint]] | None:
        local = (self._here, 0)
        dialled = []
        for place in self._tcp_servers:
            sock = self._shared(self._host, local)
            local = sock.getsockname()[:2]
            _dial(sock, place)
            dialled.append(sock)
        self._round_trips(_ROUNDS)
        if not any(_is_connected(sock) for sock in dialled):
            return None
        return local[1], [self._accepted(server)[1] for server in self._tcp_servers.values()]

    def _udp_filter(self) -> tuple[bool, bool]:
        """Whether another port of the address that was sent to gets in, and whether another address does."""
        sock = self._datagrams(self._host, (self._here, 0))
        asked, other_port, other_address = self._udp_servers
        sock.sendto(b"filtering", asked)
        self._round_trips(1)
        outer = _source(self._udp_servers[asked])
        if outer is None:
            raise LabError("a datagram got through to the server, and the next one did not")
        for place in (other_port, other_address, asked):
            self._udp_servers[place].sendto(b"answer", outer)
        self._round_trips(1)
        senders = set(iter(lambda: _source(sock), None))
        if asked not in senders:
            raise LabError("the server's answer did not get back to the host")
        return other_port in senders, other_address in senders

    def _tcp_filter(self) -> tuple[bool, bool]:
        listener = self._listener(self._host, (self._here, 0))
        sock = self._shared(self._host, listener.getsockname()[:2])
        asked = next(iter(self._tcp_servers))
        _dial(sock, asked)
        outer = self._accepted(self._tcp_servers[asked])[1]
        strangers = [self._shared(self._server, (address, 0)) for address in self._there]
        for stranger in strangers:
            _dial(stranger, outer)
        self._round_trips(_ROUNDS)
        same_address, other_address = (_is_connected(stranger) for stranger in strangers)
        return same_address, other_address

    # Options

    def options(self, findings: Findings) -> None:
        findings.refuses = self._refuses()
        if self._site.mapping is Dependence.ENDPOINT_INDEPENDENT and Option.ONLY_443 not in self._site.options:
            findings.simultaneous_open = self._opens_simultaneously()
        if self._site.kind.box is Box.NAT and findings.mapping[UDP] is not None and self._site.carrier is None:
            findings.hairpin = self._hairpins()
        if Option.SHORT in self._site.options:
            findings.forgets = self._forgets()

    def _refuses(self) -> bool:
        sock = self._shared(self._server, (self._there[0], 0))
        _dial(sock, (self._public, _NOBODY_PORT))
        self._round_trips(_ROUNDS)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED

    def _opens_simultaneously(self) -> bool:
        """The host's SYN gets no answer; then one of the server's comes from where it was sent to."""
        asked = next(iter(self._tcp_servers))
        first = self._shared(self._host, (self._here, 0))
        _dial(first, asked)
        outer = self._accepted(self._tcp_servers[asked])[1]
        second = self._shared(self._host, first.getsockname()[:2])
        _dial(second, (self._there[0], _SILENT_PORT))
        self._round_trips(1)
        _dial(self._shared(self._server, (self._there[0], _SILENT_PORT)), outer)
        self._round_trips(_ROUNDS)
        return _is_connected(second)

    def _hairpins(self) -> bool:
        one, two = (self._datagrams(self._host, (self._here, 0)) for _ in range(2))
        asked = next(iter(self._udp_servers))
        one.sendto(b"hairpin", asked)
        self._round_trips(1)
        outer = _source(self._udp_servers[asked])
        if outer is None:
            raise LabError("a datagram got through to the server, and a later one did not")
        two.sendto(b"hairpin", outer)
        self._round_trips(1)
        return _source(one) is not None

    def _forgets(self) -> bool:
        """Whether the server's answer, sent when the mapping was idle for longer than it lives, is lost."""
        sock = self._datagrams(self._host, (self._here, 0))
        asked = next(iter(self._udp_servers))
        sock.sendto(b"short", asked)
        self._round_trips(1)
        outer = _source(self._udp_servers[asked])
        if outer is None:
            raise LabError("a datagram got through to the server, and a later one did not")
        ends_at = time.monotonic() + TIMEOUTS["udp_timeout_stream"] + 1
        while time.monotonic() < ends_at:  # the clock's own connection must not be idle
            self._round_trips(1)
            time.sleep(0.5)
        self._udp_servers[asked].sendto(b"late", outer)
        self._round_trips(1)
        return _source(sock) is None

    # Sockets

    def _round_trips(self, number: int) -> None:
        """All that was sent before has arrived, and has been answered ``number`` - 1 times."""
        here, there = self._clock
        for _ in range(number):
            for one, other in ((here, there), (there, here)):
                one.sendall(b".")
                if not other.recv(1):
                    raise LabError("the connection that must always work was closed")

    def _connection(self, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
        sock = self._shared(self._host, (self._here, 0))
        sock.connect(listener.getsockname())
        return sock, self._accepted(listener)[0]

    def _accepted(self, listener: socket.socket) -> tuple[socket.socket, Endpoint]:
        try:
            sock, address = listener.accept()
        except TimeoutError:
            raise LabError("a connection that the host opened did not reach the server") from None
        sock.settimeout(_PATIENCE)
        return self._stack.enter_context(sock), address[:2]

    def _datagrams(self, namespace: str, place: Endpoint) -> socket.socket:
        with inside(namespace):
            sock = self._stack.enter_context(socket.socket(self._family, socket.SOCK_DGRAM))
        sock.bind(place)
        sock.setblocking(False)
        return sock

    def _shared(self, namespace: str, place: Endpoint) -> socket.socket:
        """A TCP socket on a port that others may share."""
        with inside(namespace):
            sock = self._stack.enter_context(socket.socket(self._family, socket.SOCK_STREAM))
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind(place)
        sock.settimeout(_PATIENCE)
        return sock

    def _listener(self, namespace: str, place: Endpoint) -> socket.socket:
        sock = self._shared(namespace, place)
        sock.listen()
        return sock


def _dependence(other_port: bool, other_address: bool) -> Dependence:
    """From whether another port, and another address, are treated as the first endpoint was."""
    if other_address:
        return Dependence.ENDPOINT_INDEPENDENT
    return Dependence.ADDRESS_DEPENDENT if other_port else Dependence.ADDRESS_AND_PORT_DEPENDENT


def _source(sock: socket.socket) -> Endpoint | None:
    """Who sent the next datagram that has come; None if none has."""
    try:
        _, address = sock.recvfrom(100)
    except BlockingIOError:
        return None
    return address[0], address[1]


def _dial(sock: socket.socket, place: Endpoint) -> None:
    sock.setblocking(False)
    sock.connect_ex(place)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
