"""Scripted STUN and TURN servers: right by default, wrong where a case wants it, and they remember what was asked."""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from interop.conformance import stun
from interop.conformance.case import NotConforming
from interop.conformance.stun import Address, Attr, Draft, Kind, Message
from interop.conformance.target import Server
from interop.conformance.wire import Channel, Connection, Listener, Packet, UdpPort, Wire

REALM: Final = "conformance.example"
USER: Final = "user"
PASSWORD: Final = "correct horse"

UDP_RELAYED: Final = 17
TCP_RELAYED: Final = 6
"""Values of REQUESTED-TRANSPORT: the numbers of the protocols."""

_FIRST_CHANNEL_BYTE: Final = 0x40
_LIFETIME: Final = 600


class Method(IntEnum):
    """What a client asks for (RFC 8656 s17, RFC 6062 s6.1)."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009
    CONNECT = 0x00A
    CONNECTION_BIND = 0x00B
    CONNECTION_ATTEMPT = 0x00C


class ServerConnection(Connection):
    """A connection of the target to a server: STUN and ChannelData as they are, until it is `handed_over`."""

    handed_over = False
    """It is a peer's now (RFC 6062 s4.3): frames of RFC 4571."""

    def send(self, data: bytes | Draft) -> None:
        if self.handed_over:
            super().send(data)
            return
        for packet in self.wire.leaving(self, bytes(data)):
            self._went(packet, self.far)
            self.write(packet)

    def _cut_frames(self, at: float) -> None:
        while not self.handed_over and len(self.stream) - self._cut >= 4:
            end = self._cut + self._size()
            if end > len(self.stream):
                return
            start, self._cut = self._cut, end
            self._came(bytes(self.stream[start:end]), self.far, at)
        if self.handed_over:
            super()._cut_frames(at)

    def _size(self) -> int:
        """Of the message at the cut; what is neither STUN nor ChannelData is taken as it is, all of it."""
        first: int
        length: int
        first, length = struct.unpack_from("!HH", self.stream, self._cut)
        if first >> 8 & 0xC0 == _FIRST_CHANNEL_BYTE:
            return 4 + length + -length % 4
        if first >> 14 or (len(self.stream) - self._cut >= 8 and not self._has_cookie()):
            return len(self.stream) - self._cut
        return stun.HEADER_BYTES + length

    def _has_cookie(self) -> bool:
        return self.stream[self._cut + 4 : self._cut + 8] == stun.COOKIE


class StunServer:
    """A STUN server over UDP and TCP on one port. It says that NATs map each port to `mapped`."""

    def __init__(self, wire: Wire, host: str = "127.0.0.1", *, mapped: Callable[[Address], Address]) -> None:
        self.wire = wire
        self.mapped = mapped
        self.listener, self.udp = _on_one_port(wire, host)
        self.listener.greet = self._attend
        self._attend(self.udp)
        self.address = self.udp.near
        self.requests: list[tuple[Channel, Packet]] = []
        """All that were asked, in order."""
        self._taken = 0

    @property
    def connections(self) -> list[Connection]:
        """The target's connections to this server."""
        return self.listener.connections

    def as_told(self) -> Server:
        """What the target is told of it."""
        return Server(*self.address)

    async def asked(self, *methods: Method, within: float | None = None) -> tuple[Channel, Message]:
        """The next request with one of these methods that the server heeds. Raises NotConforming."""

        def look() -> tuple[Channel, Packet] | None:
            for index in range(self._taken, len(self.requests)):
                message = self.requests[index][1].message
                if message is not None and message.method in methods and self.heeds(message):
                    self._taken = index + 1
                    return self.requests[index]
            return None

        found = await self.wire.find(look, within)
        if found is None:
            wanted = " or ".join(method.name for method in methods)
            raise NotConforming(f"no {wanted} request came to the server within {self.wire.span(within)}")
        channel, packet = found
        assert packet.message is not None
        return channel, packet.message

    def heeds(self, message: Message) -> bool:
        return message.kind is Kind.REQUEST

    def answer(self, channel: Channel, packet: Packet, message: Message) -> Draft | None:  # noqa: ARG002 - for others
        """What a request is answered with; None: nothing."""
        if message.method != Method.BINDING:
            return None
        return self._success(message).add(Attr.XOR_MAPPED_ADDRESS, self._mapped(packet, message)).fingerprint()

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.listener.close()
        self.udp.close()

    def _attend(self, channel: Channel) -> None:
        def react(packet: Packet) -> None:
            message = packet.message
            if message is None or message.kind is not Kind.REQUEST:
                return
            if isinstance(channel, ServerConnection) and channel.handed_over:
                return
            self.requests.append((channel, packet))
            answer = self.answer(channel, packet, message)
            if answer is not None:
                self._give(channel, packet, answer)

        channel.react = react

    def _give(self, channel: Channel, packet: Packet, answer: Draft) -> None:
        if isinstance(channel, UdpPort):
            channel.send_to(answer, packet.far)
        else:
            channel.send(answer)

    def _success(self, message: Message) -> Draft:
        return Draft(Kind.SUCCESS, message.transaction_id, method=message.method)

    def _mapped(self, packet: Packet, message: Message) -> bytes:
        return stun.xor_address(self.mapped(packet.far), message.transaction_id)


class TurnServer(StunServer):
    """A TURN server with long-term credentials (RFC 8489 s9.2) that relays nothing by itself.

    ``transport`` is how the target is told to reach it. ``refuses`` says which methods get which error; ``relayed``
    gives the relayed address of an allocation, by its REQUESTED-TRANSPORT.
    """

    def __init__(
        self, wire: Wire, host: str = "127.0.0.1", *, transport: str, mapped: Callable[[Address], Address]
    ) -> None:
        super().__init__(wire, host, mapped=mapped)
        self.transport = transport
        self.refuses: dict[Method, int] = {}
        self.ignores: set[Method] = set()
        """What is not answered at all."""
        self.relayed: dict[int, Address] = {UDP_RELAYED: ("203.0.113.5", 50_000), TCP_RELAYED: ("203.0.113.5", 50_001)}
        self.after_binding = b""
        """What comes right behind the answer to a ConnectionBind, in the same segment."""
        self.key = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode(), usedforsecurity=False).digest()
        self._nonce = secrets.token_hex(8).encode()

    def as_told(self) -> Server:
        return Server(*self.address, turn=True, transport=self.transport, username=USER, password=PASSWORD)

    def heeds(self, message: Message) -> bool:
        """With the right credentials."""
        return super().heeds(message) and (message.method == Method.BINDING or message.integrity_holds(self.key))

    def answer(self, channel: Channel, packet: Packet, message: Message) -> Draft | None:
        if message.method == Method.BINDING:
            return super().answer(channel, packet, message)
        if not message.integrity_holds(self.key):
            return self.error(message, 401).add(Attr.REALM, REALM.encode()).add(Attr.NONCE, self._nonce)
        method = Method(message.method)
        if method in self.ignores:
            return None
        if method in self.refuses:
            return self.error(message, self.refuses[method]).integrity(self.key)
        answer = self._success(message)
        match method:
            case Method.ALLOCATE:
                relayed = self.relayed[(message.get(Attr.REQUESTED_TRANSPORT) or b"\0")[0]]
                answer.add(Attr.XOR_RELAYED_ADDRESS, stun.xor_address(relayed, message.transaction_id))
                answer.add(Attr.XOR_MAPPED_ADDRESS, self._mapped(packet, message))
                answer.add(Attr.LIFETIME, _LIFETIME.to_bytes(4, "big"))
            case Method.REFRESH:
                answer.add(Attr.LIFETIME, message.get(Attr.LIFETIME) or _LIFETIME.to_bytes(4, "big"))
            case Method.CONNECT:
                answer.add(Attr.CONNECTION_ID, self.connection_id(message))
        return answer.integrity(self.key)

    def error(self, message: Message, code: int) -> Draft:
        draft = Draft(Kind.ERROR, message.transaction_id, method=message.method)
        return draft.add(Attr.ERROR_CODE, stun.error_value(code, "as the case wants it"))

    def connection_id(self, message: Message) -> bytes:
        """Of the connection that a Connect request opens: made from the request, so that cases know it."""
        return message.transaction_id[:4]

    def peer_connects(self, control: Channel, peer: Address, connection_id: bytes) -> None:
        """Tell of a connection that a peer opened (RFC 6062 s5.3)."""
        draft = Draft(Kind.INDICATION, method=Method.CONNECTION_ATTEMPT).add(Attr.CONNECTION_ID, connection_id)
        control.send(draft.add(Attr.XOR_PEER_ADDRESS, stun.xor_address(peer, draft.transaction_id)))

    def _give(self, channel: Channel, packet: Packet, answer: Draft) -> None:
        message = packet.message
        assert message is not None
        binds = message.method == Method.CONNECTION_BIND and self.heeds(message) and message.method not in self.refuses
        if binds and isinstance(channel, ServerConnection):
            behind = self.wire.leaving(channel, self.after_binding) if self.after_binding else ()
            channel.write(bytes(answer) + b"".join(behind))
            channel.handed_over = True
        else:
            super()._give(channel, packet, answer)


def _on_one_port(wire: Wire, host: str) -> tuple[Listener, UdpPort]:
    while True:
        udp = UdpPort(wire, host)
        try:
            return Listener(wire, host, port=udp.near[1], connection=ServerConnection), udp
        except OSError:  # the port is somebody's for TCP
            udp.close()
