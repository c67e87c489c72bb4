"""The scripted peer: it says what a case tells it to, right or wrong, and decides nothing by itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from interop.conformance import stun
from interop.conformance.candidate_lines import write_candidate
from interop.conformance.stun import Address, Attr, Draft, Kind
from interop.conformance.target import Description
from interop.conformance.wire import Channel, Connection, Listener, Matcher, Packet, UdpPort, Wire, connect

Socket = TypeVar("Socket", UdpPort, Listener, Connection)

HOST_PRIORITY: Final = 126 << 24 | 65535 << 8 | 255
PRFLX_PRIORITY: Final = 110 << 24 | 65535 << 8 | 255
"""What the peer says in PRIORITY."""

CHECK: Final = Matcher("Binding request", lambda packet: _is(packet, Kind.REQUEST))
SUCCESS: Final = Matcher("success response", lambda packet: _is(packet, Kind.SUCCESS))
ERROR: Final = Matcher("error response", lambda packet: _is(packet, Kind.ERROR))
STUN: Final = Matcher("STUN message", lambda packet: packet.message is not None)
DATA: Final = Matcher("data", lambda packet: bool(packet.data) and packet.message is None)
NOMINATION: Final = Matcher("Binding request with USE-CANDIDATE", lambda packet: is_nomination(packet))


class Peer:
    """Credentials, sockets, and messages made of both sides' credentials.

    ``target`` is what the target told, as soon as it is known. ``tie_breaker`` is small or large as a case wants it.
    """

    def __init__(self, wire: Wire, *, controlling: bool) -> None:
        self.wire = wire
        self.controlling = controlling
        self.ufrag = secrets.token_hex(4)
        self.pwd = secrets.token_hex(12)
        self.tie_breaker = 1 << 63
        self.target = Description("", "")
        self.sockets: list[UdpPort | Listener | Connection] = []

    # -- sockets

    def udp(self, host: str = "127.0.0.1", far: Address = ("", 0)) -> UdpPort:
        return self._own(UdpPort(self.wire, host, far))

    def listen(self, host: str = "127.0.0.1", *, backlog: int = 64) -> Listener:
        """A passive candidate of the peer."""
        return self._own(Listener(self.wire, host, backlog=backlog))

    async def dial(self, far: Address, *, host: str = "127.0.0.1", port: int = 0) -> Connection | None:
        connection = await connect(self.wire, far, host=host, port=port)
        return None if connection is None else self._own(connection)

    def close(self) -> None:
        for each in self.sockets:
            if isinstance(each, Listener):
                for connection in each.connections:
                    connection.close()
            each.close()

    # -- what the peer tells

    def description(self, *, lite: bool = False, pacing: int | None = None) -> Description:
        return Description(self.ufrag, self.pwd, ("ice2", "trickle"), lite, pacing)

    def candidate(self, at: Channel | Listener | Address, *, priority: int = HOST_PRIORITY, **more: Any) -> str:
        """A line of SDP for one of its sockets, or for any address; ``more`` as for `write_candidate`."""
        return write_candidate(at if isinstance(at, tuple) else at.near, priority=priority, **more)

    # -- asking

    def draft(
        self,
        *,
        use_candidate: bool = False,
        controlling: bool | None = None,
        tie_breaker: int | None = None,
        username: str | None = None,
        priority: int | None = PRFLX_PRIORITY,
        transaction_id: bytes | None = None,
    ) -> Draft:
        """A Binding request as RFC 8445 s7.1 and s7.2.2 have it, without integrity yet: add what is to be wrong."""
        request = Draft(Kind.REQUEST, transaction_id)
        request.add(Attr.USERNAME, (username or f"{self.target.ufrag}:{self.ufrag}").encode())
        if priority is not None:
            request.add(Attr.PRIORITY, priority.to_bytes(4, "big"))
        role = self.controlling if controlling is None else controlling
        number = self.tie_breaker if tie_breaker is None else tie_breaker
        request.add(Attr.ICE_CONTROLLING if role else Attr.ICE_CONTROLLED, number.to_bytes(8, "big"))
        if use_candidate:
            request.add(Attr.USE_CANDIDATE)
        return request

    def sealed(self, draft: Draft) -> Draft:
        """With the target's password and a fingerprint."""
        return draft.integrity(self.target.pwd).fingerprint()

    def request(self, **how: Any) -> Draft:
        """A right Binding request; ``how`` as for `draft`."""
        return self.sealed(self.draft(**how))

    # -- answering

    def success(self, request: Packet, *, mapped: Address | None = None) -> Draft:
        """A right answer, with the integrity that the request had; ``mapped`` is where it came from."""
        return self.signed(self.bare_success(request, mapped=mapped), request)

    def bare_success(self, request: Packet, *, mapped: Address | None = None) -> Draft:
        """A success response without integrity and fingerprint."""
        transaction_id = _transaction_id(request)
        answer = Draft(Kind.SUCCESS, transaction_id)
        return answer.add(Attr.XOR_MAPPED_ADDRESS, stun.xor_address(mapped or request.far, transaction_id))

    def error(self, request: Packet, code: int, reason: str = "as the case wants it") -> Draft:
        answer = Draft(Kind.ERROR, _transaction_id(request)).add(Attr.ERROR_CODE, stun.error_value(code, reason))
        return self.signed(answer, request)

    def signed(self, answer: Draft, request: Packet) -> Draft:
        """With the integrity of the request (RFC 8489 s9.1.3) and a fingerprint."""
        assert request.message is not None
        if request.message.has(Attr.MESSAGE_INTEGRITY_SHA256):
            return answer.integrity_sha256(self.pwd).fingerprint()
        return answer.integrity(self.pwd).fingerprint()

    # -- behaving well

    def answers(self, channel: Channel) -> None:
        """From now on every check on this channel gets a right answer, and nothing else happens by itself."""

        def react(packet: Packet) -> None:
            if CHECK.matches(packet):
                self._reply(channel, packet, self.success(packet))

        channel.react = react

    def answers_on(self, listener: Listener) -> None:
        """The same for every connection that comes."""
        listener.greet = self.answers

    def replies(self, channel: Channel, make: Callable[[Packet], Iterable[Draft | bytes]]) -> None:
        """From now on checks on this channel get what ``make`` makes."""

        def react(packet: Packet) -> None:
            if CHECK.matches(packet):
                for answer in make(packet):
                    self._reply(channel, packet, answer)

        channel.react = react

    def _reply(self, channel: Channel, packet: Packet, answer: Draft | bytes) -> None:
        if isinstance(channel, UdpPort):
            channel.send_to(answer, packet.far)
        else:
            channel.send(answer)

    def _own(self, opened: Socket) -> Socket:
        self.sockets.append(opened)
        return opened


def answer_to(request: Draft | bytes) -> Matcher:
    """The response to this request of the peer."""
    transaction_id = request.transaction_id if isinstance(request, Draft) else request[8:20]
    return Matcher(
        "answer to the request",
        lambda packet: (
            packet.message is not None
            and packet.message.transaction_id == transaction_id
            and packet.message.kind in (Kind.SUCCESS, Kind.ERROR)
        ),
    )


def is_nomination(packet: Packet) -> bool:
    return CHECK.matches(packet) and packet.message is not None and packet.message.has(Attr.USE_CANDIDATE)


def _is(packet: Packet, kind: Kind) -> bool:
    message = packet.message
    return message is not None and message.kind is kind and message.method == stun.BINDING


def _transaction_id(request: Packet) -> bytes:
    assert request.message is not None
    return request.message.transaction_id
