"""The ways of an agent to its servers in the simulated world: a socket or a connection each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure, LegTransport, OpenLeg, RelayPath, TurnIntoStream
from ice_tcp.datapath import DatagramPath
from ice_tcp.framing import FramingError, ServerStreamSplitter
from ice_tcp.stun import MessageClass, Method, data, decode, encode, xor_peer_address
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
SEND_INDICATION = b"\x00\x16"


class SimLeg:
    """What both kinds of legs do with the messages of a server, and with data for peers."""

    def __init__(self, shell: SimShell, command: OpenLeg) -> None:
        self.shell = shell
        self.id = command.leg
        self.component = command.component
        self.host = command.host
        self.remote = Endpoint(command.remote.host, command.remote.port)
        self.transport = command.transport
        self.peers = DatagramPath(early_limit=shell.policy.limits.early_bytes)
        self.channels: dict[TransportAddress, int] = {}
        self.closed = False
        self._peer_of: dict[int, TransportAddress] = {}

    def bind_channel(self, peer: TransportAddress, number: int | None) -> None:
        old = self.channels.pop(peer, None)
        if old is not None:
            del self._peer_of[old]
        if number is not None:
            self.channels[peer] = number
            self._peer_of[number] = peer

    def take(self, message: bytes) -> None:
        """One whole message of the server."""
        peer = self._peer_of.get(int.from_bytes(message[:2], "big"))
        if peer is None:
            self.shell.input(lambda now: self.shell.agent.leg_received(self.id, message, now))
            return
        size = int.from_bytes(message[2:CHANNEL_HEADER_BYTES], "big")
        payload = message[CHANNEL_HEADER_BYTES : CHANNEL_HEADER_BYTES + size]
        if len(payload) < size:
            return  # a datagram cut short
        self.shell.world.events["channel-data"] += 1
        for packet in self.deliver(peer, payload):
            self.shell.input(partial(self.shell.agent.relayed, self.id, peer, packet))

    def deliver(self, peer: TransportAddress, payload: bytes) -> list[bytes]:
        """A peer's datagram: data goes to the application, STUN is returned."""
        received = self.peers.receive(payload, peer)
        for packet in received.data:
            self.shell.deliver(self.component, RelayPath(self.id, peer), packet)
        return received.stun

    def admit(self, peer: TransportAddress) -> None:
        for packet in self.peers.admit(peer):
            self.shell.world.events["early-data-relay"] += 1
            self.shell.deliver(self.component, RelayPath(self.id, peer), packet)

    def unwrapped(self, message: bytes) -> tuple[TransportAddress, bytes] | None:
        """The peer and what it is sent, if the message is that of the core for a peer."""
        if message[0] >= 0x40:
            peer = self._peer_of.get(int.from_bytes(message[:2], "big"))
            size = int.from_bytes(message[2:CHANNEL_HEADER_BYTES], "big")
            return (peer, message[CHANNEL_HEADER_BYTES : CHANNEL_HEADER_BYTES + size]) if peer else None
        if message[:2] != SEND_INDICATION:
            return None
        sent = decode(message)
        assert sent.xor_peer_address is not None
        assert sent.data is not None
        return TransportAddress(*sent.xor_peer_address), sent.data

    def wrap(self, peer: TransportAddress, payload: bytes) -> bytes:
        """A datagram for a peer, as a message to the server."""
        number = self.channels.get(peer)
        if number is None:
            id_ = self.shell.rng.randbytes(12)
            attributes = [xor_peer_address(peer.host, peer.port, id_), data(payload)]
            return encode(MessageClass.INDICATION, Method.SEND, id_, attributes, fingerprint=False)
        padding = bytes(-len(payload) % 4 if self.transport.reliable else 0)
        return number.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload + padding

    def open(self, command: OpenLeg) -> None:
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Send a STUN message before waiting data."""
        raise NotImplementedError

    def send_data(self, peer: TransportAddress, payload: bytes) -> bool:
        """Send application data; False if there is no room."""
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
        self._local: Endpoint | None = None

    def open(self, command: OpenLeg) -> None:
        self.shell.clock.after(self.shell.bind_delay(), partial(self._bind, command))

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
        if source == self.remote and packet:
            self.take(packet)

    def send(self, message: bytes) -> None:
        if self._local is not None:
            self.shell.host.send_udp(self._local, self.remote, message, self.id, self.shell.name)

    def send_data(self, peer: TransportAddress, payload: bytes) -> bool:
        self.send(self.wrap(peer, payload))
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
        self._splitter = ServerStreamSplitter()
        self._started = False
        self._urgent: list[bytes] = []
        self._data: list[bytes] = []
        self._begun = b""
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
        elif self._intake.socket is not None:
            self._shut()

    def _shut(self) -> None:
        self.closed = True
        self._socket.close()

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
        self._splitter.append(chunk)
        try:
            while not self.closed and (message := self._splitter.take()) is not None:
                if not self._started and message[0] >= 0x40:
                    raise FramingError("data before anything was asked for")
                self._started = True
                self.take(message)
        except FramingError as error:
            self._fail(Failure.NOT_STUN, str(error))
        if self._into is not None:
            self._become_stream(self._into)

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
        rest = self._splitter.detach()
        if rest:
            self.shell.world.events["early-relayed-bytes"] += 1
            stream.take(rest)
        stream.tcp_readable()

    # -- writing -----------------------------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        self._urgent.append(message)
        self._pump()

    def send_data(self, peer: TransportAddress, payload: bytes) -> bool:
        if sum(map(len, self._data)) >= self.shell.policy.limits.send_bytes:
            return False
        self._data.append(self.wrap(peer, payload))
        self._pump()
        return True

    def tcp_writable(self) -> None:
        self._pump()

    def _pump(self) -> None:
        """Write what waits, STUN first, each message to its end."""
        if self.closed or not self._is_open:
            return
        while self._socket.room:
            if not self._begun:
                queue = self._urgent or self._data
                if not queue:
                    break
                self._begun = queue.pop(0)
            self._begun = self._begun[self._socket.write(self._begun) :]
        if self._closing and not (self._begun or self._urgent or self._data):
            self._shut()


def open_leg(shell: SimShell, command: OpenLeg) -> SimLeg:
    """A leg as it was asked for."""
    return StreamLeg(shell, command) if command.transport.reliable else DatagramLeg(shell, command)
