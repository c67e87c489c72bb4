"""A simulated host: addresses, ports, UDP sockets and a TCP stack."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from candidates.candidate import Transport
from ice_tcp.core.commands import Failure
from tests.sim.clock import Clock
from tests.sim.nat import Nat
from tests.sim.network import Attachment, Link, Observer, Realm, describe
from tests.sim.packets import Endpoint, Origin, Packet, Segment
from tests.sim.tcp import LINEAR_SYN_SCHEDULE, TcpSocket
from tests.sim.tcpstack import TcpStack

LOOPBACK_DELAY = 30e-6
EPHEMERAL_PORTS = (32768, 60999)

OnDatagram: TypeAlias = Callable[[bytes, Endpoint, Origin | None], None]


class BindError(Exception):
    """A socket could not be bound; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Host:
    """A machine with one or several addresses, each in a realm."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        rng: Random,
        *,
        syn_schedule: tuple[float, ...] = LINEAR_SYN_SCHEDULE,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.taken: set[tuple[Transport, int]] = set()
        self.tcp = TcpStack(clock, lambda: rng.getrandbits(40), self._send_segment, syn_schedule)
        self.attachments: dict[str, Attachment] = {}
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._udp: dict[Endpoint, OnDatagram] = {}

    def attach(self, realm: Realm, address: str, link: Link) -> None:
        """Give the host ``address`` in ``realm``."""
        self.attachments[address] = realm.attach(self, [address], link)

    def lose_address(self, address: str) -> None:
        """The interface is gone: nothing leaves by it or comes in."""
        self._say(f"loses {address}")
        self.attachments[address].up = False

    # -- sockets -----------------------------------------------------------------------------------------------

    def bind_udp(self, address: str, ports: tuple[int, int] | None, on_datagram: OnDatagram) -> Endpoint:
        """Bind a UDP socket; raises BindError."""
        local = self._choose(Transport.UDP, address, ports)
        self._udp[local] = on_datagram
        return local

    def close_udp(self, local: Endpoint) -> None:
        del self._udp[local]

    def send_udp(self, local: Endpoint, remote: Endpoint, data: bytes, handle: int, owner: str) -> None:
        """Send a datagram, unless there is no route."""
        self._send(Packet(local, remote, data, Origin(owner, handle, remote)))

    def listen(self, address: str, ports: tuple[int, int] | None, on_accept: Callable[[TcpSocket], None]) -> Endpoint:
        """Listen on a port of ``ports`` that connections may share; raises BindError."""
        local = self._choose(Transport.TCP, address, ports)
        self.tcp.listen(local, on_accept)
        return local

    def free_port(self, address: str, ports: tuple[int, int] | None = None) -> Endpoint:
        """A port for an active connection; raises BindError."""
        return self._choose(Transport.TCP, address, ports)

    def has_route(self, address: str, remote: Endpoint) -> bool:
        """Whether anything sent from ``address`` to ``remote`` leaves this host."""
        attachment = self.attachments[address]
        return attachment.up and (remote.host in self.attachments or attachment.realm.reaches(remote.host))

    def _choose(self, transport: Transport, address: str, ports: tuple[int, int] | None) -> Endpoint:
        if address not in self.attachments or not self.attachments[address].up:
            raise BindError(Failure.ADDRESS_UNAVAILABLE)
        bound = self._udp if transport is Transport.UDP else self.tcp.listeners
        in_use = {local.port for local in bound if local.host == address}
        first, last = ports or EPHEMERAL_PORTS
        start = self._rng.randint(first, last)
        for port in (*range(start, last + 1), *range(first, start)):
            if port not in in_use and (transport, port) not in self.taken:
                return Endpoint(address, port)
        raise BindError(Failure.PORTS_TAKEN)

    @property
    def open_sockets(self) -> list[str]:
        """What is still open, orphaned connections aside."""
        held = [socket for socket in self.tcp.connections.values() if socket.owner is not None]
        return (
            [f"udp {local}" for local in self._udp]
            + [f"listener {local}" for local in self.tcp.listeners]
            + [f"tcp {socket.local} {socket.remote} {socket.state.value}" for socket in held]
        )

    # -- NATs --------------------------------------------------------------------------------------------------

    def reflexive(self, transport: Transport, local: Endpoint) -> Endpoint | None:
        """Where a STUN server would see ``local``; itself without NAT, None where nothing gets out."""
        gateway = self.attachments[local.host].realm.gateway
        if gateway is None or not isinstance(gateway.node, Nat):
            return local
        return gateway.node.reflexive(transport, local)

    # -- packets -----------------------------------------------------------------------------------------------

    def _send_segment(self, socket: TcpSocket | None, local: Endpoint, remote: Endpoint, segment: Segment) -> None:
        self._send(Packet(local, remote, segment))

    def _send(self, packet: Packet) -> None:
        attachment = self.attachments.get(packet.source.host)
        if attachment is None or not attachment.up:
            return
        if self._observer is not None:
            self._say(f"{packet.source} -> {packet.destination} {describe(packet.payload)}")
        if packet.destination.host in self.attachments:
            self._clock.after(LOOPBACK_DELAY, lambda: self._accept(packet))
        else:
            attachment.send(packet)

    def receive(self, packet: Packet, via: Attachment) -> None:
        """A packet came from a realm."""
        self._accept(packet)

    def _accept(self, packet: Packet) -> None:
        if packet.destination.host not in self.attachments:
            return
        if self._observer is not None:
            self._say(f"{packet.destination} <- {packet.source} {describe(packet.payload)}")
        if isinstance(packet.payload, bytes):
            on_datagram = self._udp.get(packet.destination)
            if on_datagram is not None:
                on_datagram(packet.payload, packet.source, packet.origin)
        else:
            self.tcp.receive(packet.destination, packet.source, packet.payload)

    def _say(self, text: str) -> None:
        if self._observer is not None:
            self._observer(self.name, text)
