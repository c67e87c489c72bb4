"""The way to a server: what its owner gives, and what is known of it."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.exchanges import Note, ServerDropReason, ServerMessageDropped, ServerRecord
from ice_tcp.framing import FramingError, ServerStreamSplitter
from ice_tcp.stun import DecodeError, Message


class ServerPath(Protocol):
    """One socket's or connection's way to one server, for one machine.

    The owner hands the machine only what came from that server's address.
    """

    @property
    def reliable(self) -> bool:
        """True for an unframed stream (TCP, TLS), False for datagrams (UDP, DTLS)."""
        ...

    def send(self, data: bytes) -> None:
        """Send one datagram, or write these bytes."""
        ...


class Link:
    """A path with what the machines on it share: context, trace, and counters of what was ignored.

    ``server`` names the server in traces.
    """

    __slots__ = (
        "_note",
        "_path",
        "_speaks_stun",
        "_splitter",
        "context",
        "dropped",
        "heard_at",
        "reliable",
        "sent_at",
        "server",
    )

    def __init__(self, context: Context, path: ServerPath, server: str, note: Note | None) -> None:
        self.context = context
        self.reliable = path.reliable
        self.server = server
        self.heard_at = float("-inf")
        self.sent_at = float("-inf")
        self.dropped: Counter[ServerDropReason] = Counter()
        self._path = path
        self._note = note
        self._speaks_stun = False
        self._splitter = ServerStreamSplitter()

    def send(self, data: bytes, now: float) -> None:
        self.sent_at = now
        self._path.send(data)

    def split(self, data: bytes, now: float) -> tuple[list[bytes], str | None]:
        """The messages that ``data``, a datagram or the next bytes of the stream, completes.

        With them, what is wrong with the stream: it can carry no more.
        """
        first, self.heard_at = self.heard_at == float("-inf"), now
        if not self.reliable:
            return [data], None
        if first and data[:1] >= b"\x40":
            # HTTP begins like ChannelData of 21 KB, but no server sends data before it was asked for anything.
            return [], f"first byte 0x{data[0]:02x} is not of STUN"
        try:
            return self._splitter.feed(data), None
        except FramingError as error:
            return error.messages, str(error)

    def decode(self, data: bytes, now: float) -> Message | None:
        """The STUN message in ``data``; None, after dropping it, if there is none."""
        try:
            message = stun.decode(data)
        except DecodeError as error:
            self.drop(ServerDropReason.MALFORMED, str(error), now)
            return None
        self._speaks_stun = True
        return message

    @property
    def speaks_something_else(self) -> bool:
        """Whether all that came were no STUN messages."""
        return not self._speaks_stun and self.dropped.total() > 0

    def drop(self, reason: ServerDropReason, detail: str, now: float) -> None:
        self.dropped[reason] += 1
        self.note(ServerMessageDropped(self.server, reason, detail), now)

    def note(self, record: ServerRecord, now: float) -> None:
        if self._note is not None:
            self._note(now, record)
