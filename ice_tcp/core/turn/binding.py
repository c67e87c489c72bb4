"""A Binding request to a server: how does the world see this socket? (RFC 8489 s13, RFC 5780 s4)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.exchanges import Note, ServerDropReason
from ice_tcp.core.outcomes import Advice, Cause, ServerFailure, ServerVerdict
from ice_tcp.core.turn.channels import is_channel_data
from ice_tcp.core.turn.link import Link, ServerPath
from ice_tcp.core.turn.requests import Requests, transport_address
from ice_tcp.stun import DecodeError, Message, MessageClass, Method


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a Binding response told.

    ``mapped`` is our address as the server saw it. A server of RFC 5780 names its ``other_address``, with other IP
    address and port, and ``response_origin``, from where it answered; None from others.
    """

    mapped: TransportAddress
    other_address: TransportAddress | None = None
    response_origin: TransportAddress | None = None
    software: str | None = None


class BindingListener(Protocol):
    """Who hears what became of a `BindingJob`; exactly one call comes, unless it is cancelled."""

    def binding_succeeded(self, mapping: Mapping, now: float) -> None: ...

    def binding_failed(self, failure: ServerFailure, now: float) -> None: ...


class BindingJob:
    """One Binding transaction with a server, over datagrams or an unframed stream, without credentials.

    Call `start`, hand in what the path receives, expire the context's timers. It may be started again after its end,
    on the same path, to see whether the mapping is still the same.
    """

    def __init__(
        self,
        context: Context,
        path: ServerPath,
        listener: BindingListener,
        *,
        server: str = "",
        note: Note | None = None,
        software: str | None = None,
    ) -> None:
        self._link = Link(context, path, server, note)
        self._listener = listener
        self._requests = Requests(self._link, None)
        self._attributes = [stun.software(software)] if software is not None else []
        self._running = False

    @property
    def running(self) -> bool:
        return self._running

    def start(self, now: float) -> None:
        """Send the request; ``binding_succeeded`` or ``binding_failed`` follows. Raises RuntimeError while it runs."""
        if self._running:
            raise RuntimeError("one Binding at a time")
        self._running = True
        self._requests.send(
            Method.BINDING,
            lambda _: self._attributes,
            self._succeeded,
            lambda failure, _message, at: self._end(failure, at),
            now,
        )

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._running = False
        self._requests.clear()

    def received(self, data: bytes, now: float) -> None:
        """A datagram came from the server, or the next bytes of the stream, however they were split."""
        messages, fault = self._link.split(data, now)
        for message in messages:
            self._message_received(message, now)
        if fault is not None:
            self._end(ServerFailure(ServerVerdict.NOT_STUN, fault, Advice.OTHER_TRANSPORT), now)

    def path_lost(self, cause: Cause, now: float, text: str = "") -> None:
        """The socket or connection failed, or the server closed it."""
        self._end(ServerFailure(cause, text, Advice.OTHER_TRANSPORT), now)

    def _message_received(self, data: bytes, now: float) -> None:
        if is_channel_data(data):
            self._link.drop(ServerDropReason.NO_ALLOCATION, "ChannelData", now)
            return
        message = self._link.decode(data, now)
        if message is None:
            return
        if message.message_class in (MessageClass.SUCCESS, MessageClass.ERROR):
            self._requests.received(message, now)
        else:
            self._link.drop(ServerDropReason.UNEXPECTED_INDICATION, repr(message), now)

    def _succeeded(self, message: Message, now: float) -> None:
        try:
            mapping = _mapping(message)
        except DecodeError as error:
            self._end(ServerFailure(ServerVerdict.MALFORMED, str(error)), now)
            return
        self._running = False
        self._listener.binding_succeeded(mapping, now)

    def _end(self, failure: ServerFailure, now: float) -> None:
        if self._running:
            self.cancel()
            self._listener.binding_failed(failure, now)


def _mapping(message: Message) -> Mapping:
    # Servers of RFC 3489 know MAPPED-ADDRESS only (RFC 8489 s11)
    mapped = transport_address(message.xor_mapped_address or message.mapped_address)
    if mapped is None or not mapped.port:
        raise DecodeError("a Binding response without a usable XOR-MAPPED-ADDRESS (RFC 8489 s6.3.3)")
    return Mapping(
        mapped,
        _optional(lambda: message.other_address),
        _optional(lambda: message.response_origin),
        _software(message),
    )


def _optional(read: Callable[[], tuple[str, int] | None]) -> TransportAddress | None:
    """An address that is no reason to distrust the mapping if it is malformed."""
    try:
        return transport_address(read())
    except DecodeError:
        return None


def _software(message: Message) -> str | None:
    try:
        return message.software
    except DecodeError:
        return None
