"""The ways of an agent to its servers in the simulated world: a socket or a connection each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure, LegTransport, OpenLeg, TurnIntoStream
from ice_tcp.datapath import DatagramLegPath, LegMessage, StreamLegPath
from ice_tcp.stun import decode
from tests.sim.clock import Timer
from tests.sim.host import BindError
from tests.sim.intake import Intake
from tests.sim.packets import Endpoint, Origin
from tests.sim.stream import SimStream
from tests.sim.tcp import TcpSocket
from tests.sim.tcpstack import AddressTakenError
from tests.sim.tls import Handshake

if TYPE_CHECKING:
    from tests.sim.shell import SimShell

CHANNEL_HEADER_BYTES = 4
CLOSE_TIMEOUT = 5.0
"""Seconds that what waits may take before a connection is reset that is being closed."""
SEND_INDICATION = b"\x00\x16"


class SimLeg:
    """What both kinds of legs do with the messages of a server, and with data for peers."""

    path: DatagramLegPath | StreamLegPath

    def __init__(self, shell: SimShell, command: OpenLeg) -> None:
        self.shell = shell
        self.id = command.leg
        self.component = command.component
        self.host = command.host
        self.remote = Endpoint(command.remote.host, command.remote.port)
        self.closed = False

    def bind_channel(self, peer: TransportAddress, number: int | None) -> None:
        self.path.peers.bind((peer.host, peer.port), number)

    def deliver(self, data: list[bytes]) -> None:
        """Data of peers for the application."""
        for packet in data:
            self.shell.deliver_relayed(self.component, self.id, packet)

    def deliver_of(self, peer: TransportAddress, data: bytes) -> None:
        """Data that the core found in a message of the server."""
        self.deliver(self.path.peers.deliver((peer.host, peer.port), data))

    def admit(self, peer: TransportAddress) -> None:
        early = self.path.peers.admit((peer.host, peer.port))
        if early:
            self.shell.world.events["early-data-relay"] += 1
        self.deliver(early)

    def give(self, messages: list[LegMessage]) -> None:
        """What the core has to hear."""
        agent = self.shell.agent
        for peer, message in messages:
            if peer is None:
                self.shell.input(partial(agent.leg_received, self.id, message))
            else:
                self.shell.world.events["relayed-stun"] += 1
                self.shell.input(partial(agent.relayed, self.id, TransportAddress(*peer), message))

    def unwrapped(self, message: bytes) -> tuple[TransportAddress, bytes] | None:
        """The peer and what it is sent, if the message is that of the core for a peer."""
        if message[0] >= 0x40:
            peer = self.path.peers.channels[message[:2]]
            size = int.from_bytes(message[2:CHANNEL_HEADER_BYTES], "big")
            return TransportAddress(*peer.address), message[CHANNEL_HEADER_BYTES : CHANNEL_HEADER_BYTES + size]
        if message[:2] != SEND_INDICATION:
            return None
        sent = decode(message)
        assert sent.xor_peer_address is not None
        assert sent.data is not None
        return TransportAddress(*sent.xor_peer_address), sent.data

    def send_data(self, peer: TransportAddress, data: bytes) -> bool:
        """Send application data to a peer; False if there is no room."""
        relayed = self.path.peers.admitted((peer.host, peer.port))
        return relayed is not None and self.send_wrapped(relayed.wrap(data))

    def open(self, command: OpenLeg) -> None:
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Send a STUN message before waiting data."""
        raise NotImplementedError

    def send_wrapped(self, message: bytes) -> bool:
        """Send application data in a message to the server; False if there is no room."""
        raise NotImplementedError

    def close(self) -> None:
        """Close after what was asked before has been sent as far as possible."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Be gone without a word."""
        raise NotImplementedError

    def _opened(self, local: Endpoint) -> None:
        address = TransportAddress(*local)
        self.shell.input(lambda now: self.shell.agent.leg_opened(self.id, address, now))

    def _lost(self, failure: Failure, text: str) -> None:
        self.closed = True
        self.shell.legs.gone(self.id)
        self.shell.input(lambda now: self.shell.agent.leg_lost(self.id, failure, text, now))


class DatagramLeg(SimLeg):
    """A connected UDP socket."""

    def __init__(self, shell: SimShell, command: OpenLeg) -> None:
        super().__init__(shell, command)
        early = shell.policy.limits.early_bytes
        self.path: DatagramLegPath = DatagramLegPath(early_limit=early, transaction_id=partial(shell.rng.randbytes, 12))
        self._local: Endpoint | None = None

    def open(self, command: OpenLeg) -> None:
        self.shell.clock.after(0.0, partial(self._bind, command))

    def _bind(self, command: OpenLeg) -> None:
        if self.closed or self.shell.dead:
            return
        host = self.shell.host
        try:
            self._local = host.bind_udp(command.host, command.ports, self._datagram)
        except BindError as error:
            self._lost(error.failure, "no socket")
            return
        self._opened(self._local)

    def _datagram(self, packet: bytes, source: Endpoint, _origin: Origin | None) -> None:
        if source == self.remote:
            received = self.path.receive([packet])
            self.deliver(received.data)
            self.give(received.messages)

    def send(self, message: bytes) -> None:
        if self._local is not None:
            self.shell.host.send_udp(self._local, self.remote, message, self.id, self.shell.name)

    def send_wrapped(self, message: bytes) -> bool:
        self.send(message)
        return True

    def close(self) -> None:
        self.closed = True
        if self._local is not None:
            self.shell.host.close_udp(self._local)

    abandon = close


class StreamLeg(SimLeg):
    """A TCP connection, with what stands for TLS here (a TcpOwner)."""

    def __init__(self, shell: SimShell, command: OpenLeg) -> None:
        super().__init__(shell, command)
        self._tls = command.tls
        self._handshake = Handshake() if command.transport is LegTransport.TLS else None
        self._is_open = False
        self._closing = False
        self._deadline: Timer | None = None
        self._intake = Intake(shell, self._read, self._ended)
        limits = shell.policy.limits
        self.path: StreamLegPath = StreamLegPath(
            early_limit=limits.early_bytes,
            send_limit=limits.send_bytes,
            transaction_id=partial(shell.rng.randbytes, 12),
        )
        self._into: TurnIntoStream | None = None

    # -- opening and closing -----------------------------------------------------------------------------------

    def open(self, command: OpenLeg) -> None:
        shell = self.shell
        try:
            if command.listener is not None:
                local = shell.listeners[command.listener].listener.local
            else:
                local = shell.host.free_port(command.host, command.ports)
            if not shell.host.has_route(command.host, self.remote):
                raise BindError(Failure.UNREACHABLE)
            self._intake.socket = shell.host.tcp.connect(local, self.remote, self)
        except BindError as error:
            shell.clock.after(0.0, partial(self.tcp_failed, error.failure))
        except AddressTakenError:
            shell.clock.after(0.0, partial(self.tcp_failed, Failure.ADDRESS_TAKEN))
        else:
            self._deadline = shell.clock.after(command.timeout, self._timed_out)

    def tcp_connected(self) -> None:
        if self._handshake is None:
            self._ready()
        else:
            self._socket.write(self._handshake.first)

    def _ready(self) -> None:
        self._is_open = True
        self._stop_waiting()
        self._opened(self._socket.local)
        if not self.closed:
            self._pump()

    @property
    def _socket(self) -> TcpSocket:
        assert self._intake.socket is not None
        return self._intake.socket

    def _timed_out(self) -> None:
        self._intake.stopped = True
        self._socket.abandon()
        self._lost(Failure.TIMED_OUT, "no connection in time")

    def tcp_failed(self, failure: Failure) -> None:
        if not self.closed and not self._closing:
            self._intake.stopped = True
            self._stop_waiting()
            self._lost(failure, "the connection broke" if self._is_open else "no connection")

    def _fail(self, failure: Failure, text: str) -> None:
        """The server speaks something else."""
        self._intake.stopped = True
        self._stop_waiting()
        self._socket.abort()
        self._lost(failure, text)

    def _ended(self) -> None:
        self._stop_waiting()
        self._socket.close()
        self._lost(Failure.CLOSED, "the server closed the connection")

    def close(self) -> None:
        self._closing = self._intake.stopped = True
        self._stop_waiting()
        if self._is_open:
            self._pump()
            self.shell.clock.after(CLOSE_TIMEOUT, self._give_up)
        elif self._intake.socket is not None:
            self._shut()

    def _shut(self) -> None:
        self.closed = True
        self._socket.close()

    def _give_up(self) -> None:
        if not self.closed:
            self.closed = True
            self._socket.abort()

    def abandon(self) -> None:
        self.closed = self._intake.stopped = True
        self._stop_waiting()
        if self._intake.socket is not None:
            self._intake.socket.abandon()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    # -- reading -----------------------------------------------------------------------------------------------

    def tcp_readable(self) -> None:
        self._intake.wake()

    def _read(self, chunk: bytes) -> None:
        if not self._is_open:
            chunk = self._shake(chunk)
        if not chunk or self.closed:
            return
        data = self.path.receive(chunk).data
        self.deliver(data)
        while (messages := self.path.messages) and not self.closed:
            self.give(messages)
            if not self.closed:
                self.deliver(self.path.resume())
        if self._into is not None:
            self._become_stream(self._into)
        elif self.path.fault is not None and not self.closed:
            self._fail(Failure(self.path.fault.value), "what it says is no STUN")

    def _shake(self, chunk: bytes) -> bytes:
        """Take the server's part of the handshake; return what is behind it."""
        handshake, tls = self._handshake, self._tls
        assert handshake is not None
        rest = handshake.take(chunk)
        if handshake.failed:
            self._fail(Failure.TLS, "no TLS")
        elif handshake.name is not None and tls is not None and tls.verify and handshake.name != tls.server_name:
            self._fail(Failure.TLS_CERTIFICATE, f"the certificate is for {handshake.name}")
        elif handshake.name is not None:
            self._ready()
        return rest

    def turn_into_stream(self, command: TurnIntoStream) -> None:
        """It is a peer's connection as soon as the message is handled that said so."""
        self.closed = self._intake.stopped = True
        stream = SimStream(self.shell, command.stream, self.component, dialled=True)
        stream.connected = True
        stream.socket = self._socket
        self._socket.owner = stream
        self.shell.streams[command.stream] = stream
        self._into = command

    def _become_stream(self, command: TurnIntoStream) -> None:
        stream = self.shell.streams.get(command.stream)
        if stream is None:
            return
        rest = self.path.detach()
        if rest:
            self.shell.world.events["early-relayed-bytes"] += 1
            stream.take(rest)
        stream.tcp_readable()

    # -- writing -----------------------------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        self.path.send_stun(message)
        self._pump()

    def send_wrapped(self, message: bytes) -> bool:
        if not self.path.send_data(message):
            return False
        self._pump()
        return True

    def tcp_writable(self) -> None:
        self._pump()
        if self.shell.application is not None and not self.closed:
            self.shell.application.writable(self.component)

    def _pump(self) -> None:
        """Write what waits, STUN first, each message to its end."""
        if self.closed or not self._is_open:
            return
        while self.path.pending and self._socket.room:
            data = b"".join(self.path.take())
            self.path.written(self._socket.write(data[: self._socket.room]))
        if self._closing and not self.path.pending:
            self._shut()


def open_leg(shell: SimShell, command: OpenLeg) -> SimLeg:
    """A leg as it was asked for."""
    return StreamLeg(shell, command) if command.transport.reliable else DatagramLeg(shell, command)
