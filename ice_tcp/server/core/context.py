"""What the parts of one server's core share."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ice_tcp.server.core.actions import Action, Address, Client, Leg, Listener, SendDatagram, SendStream
from ice_tcp.server.core.deadlines import Deadlines
from ice_tcp.server.core.requests import Refusal, Request
from ice_tcp.server.core.trace import Record, RequestRefused, TraceSink
from ice_tcp.server.options import ServerOptions
from ice_tcp.stun import (
    Attribute,
    AttributeType,
    Integrity,
    MessageClass,
    Method,
    encode,
    error_code,
    software,
)

SOFTWARE = software("ice-tcp")


class Context:
    """Options, clock and random numbers of one server, and what it asks of its shell."""

    __slots__ = ("_issued", "_trace", "actions", "can_forbid_fragments", "deadlines", "listeners", "now", "options",
                 "rng")  # fmt: skip

    def __init__(
        self,
        options: ServerOptions,
        listeners: Sequence[Listener],
        rng: random.Random,
        can_forbid_fragments: bool,
        trace: TraceSink | None,
    ) -> None:
        self.options = options
        self.listeners = listeners
        self.rng = rng
        self.can_forbid_fragments = can_forbid_fragments
        self.deadlines = Deadlines()
        self.actions: list[Action] = []
        self.now = 0.0
        """The instant of the input that is being handled."""
        self._trace = trace
        self._issued = 0

    def issue(self) -> int:
        """A number for a stream or a relay that nothing else has had."""
        self._issued += 1
        return self._issued

    def trace(self, record: Record) -> None:
        if self._trace is not None:
            self._trace(self.now, record)

    def leg(self, client: Client) -> Leg:
        return self.listeners[client.listener].leg

    # Messages to clients

    def send(self, client: Client, message: bytes, *, relayed: bool = False) -> None:
        """Send a STUN or ChannelData message on the client's 5-tuple."""
        if client.stream is None:
            self.actions.append(SendDatagram(client.listener, client.address, message))
        else:
            self.actions.append(SendStream(client.stream, message + bytes(-len(message) % 4), relayed))

    def succeed(self, request: Request, attributes: Sequence[Attribute] = ()) -> None:
        self.send(request.client, self.response(MessageClass.SUCCESS, request, [*attributes, SOFTWARE]))

    def refuse(self, request: Request, refusal: Refusal) -> None:
        self.trace(RequestRefused(request.client, request.message.method, refusal.code, refusal.detail))
        attributes = [error_code(refusal.code), *refusal.attributes, SOFTWARE]
        self.send(request.client, self.response(MessageClass.ERROR, request, attributes, signed=refusal.signed))

    def response(
        self, message_class: MessageClass, request: Request, attributes: Sequence[Attribute], *, signed: bool = True
    ) -> bytes:
        """A response with the integrity that its request had (RFC 8489 s9.2.4)."""
        message, identity = request.message, request.identity
        return encode(
            message_class,
            message.method,
            message.transaction_id,
            attributes,
            key=identity.key if identity and signed else None,
            integrity=identity.integrity if identity else Integrity.SHA1,
            fingerprint=message.has_fingerprint,
        )

    def indicate(self, client: Client, method: Method, attributes: Sequence[Attribute], transaction_id: bytes) -> None:
        """Send an indication of relayed data or of a peer's connection."""
        message = encode(MessageClass.INDICATION, method, transaction_id, attributes, fingerprint=False)
        self.send(client, message, relayed=method == Method.DATA)

    def transaction_id(self) -> bytes:
        return self.rng.randbytes(12)


def family_of(address: Address) -> int:
    """4 or 6."""
    return 6 if ":" in address[0] else 4


def has(request: Request, type_: AttributeType) -> bool:
    return type_ in request.message.attributes
