"""One TCP connection of a simulated host: handshake, crossing SYNs, ordered data, flow control, end."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from ice_tcp.core.commands import Failure
from tests.sim.clock import Clock, Timer
from tests.sim.packets import Endpoint, Segment

MSS = 16 * 1024
"""Bytes of a segment; as large as segmentation offload makes it look to the host."""
RECEIVE_BUFFER = 48 * 1024
SEND_BUFFER = 32 * 1024
"""Little, as with TCP_NOTSENT_LOWAT: what is in here goes before any STUN message."""
LINEAR_SYN_SCHEDULE = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0, 20.0, 36.0, 68.0)
"""Seconds at which Linux sends a SYN with tcp_syn_linear_timeouts = 4 (measured)."""
EXPONENTIAL_SYN_SCHEDULE = (0.0, 1.0, 3.0, 7.0, 15.0)
"""The same with tcp_syn_linear_timeouts = 0 (measured)."""
SYN_ACK_SCHEDULE = (0.0, 1.0, 3.0, 7.0, 15.0, 31.0)
"""Seconds at which a half-open connection of a listener is answered again; then it is forgotten."""
ORPHAN_TIMEOUT = 60.0
"""Seconds that the kernel keeps a closed connection for its peer's sake."""
MIN_RTO = 0.2
MAX_RTO = 8.0
DUPLICATE_ACKS = 3


class TcpState(Enum):
    """RFC 9293 s3.3.2, as far as it can be told apart from outside."""

    NEW = "new"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"


class TcpOwner(Protocol):
    """Who holds the socket; called from the world's events, never from within a call of the owner."""

    def tcp_connected(self) -> None: ...

    def tcp_readable(self) -> None:
        """Bytes to read, or the end of the stream."""

    def tcp_writable(self) -> None:
        """There is room to write again."""

    def tcp_failed(self, failure: Failure) -> None:
        """Refused or reset: the socket is gone."""


class TcpSocket:
    """A connection between ``local`` and ``remote``; made by a TcpStack.

    ``transmit`` sends a segment, ``forget`` tells the stack that the 4-tuple is free again. ``accepted`` is called
    once a half-open connection of a listener is established; such a one has no owner before.
    """

    def __init__(
        self,
        clock: Clock,
        local: Endpoint,
        remote: Endpoint,
        isn: int,
        *,
        transmit: Callable[[TcpSocket, Segment], None],
        forget: Callable[[TcpSocket], None],
    ) -> None:
        self.local = local
        self.remote = remote
        self.state = TcpState.NEW
        self.owner: TcpOwner | None = None
        self.accepted: Callable[[TcpSocket], None] | None = None
        self.crossed = False
        self.iss = isn
        self.irs = 0
        self._clock = clock
        self._transmit = transmit
        self._forget = forget
        self._timer: Timer | None = None
        self._attempt = 0
        self._rto = 1.0
        self._base_rto = 1.0
        self._duplicates = 0
        self._opened_at = clock.now
        self._una = isn
        self._nxt = isn
        self._window = 0
        self._unacked = bytearray()  # from _una on: sent and not acknowledged, then not sent
        self._rcv_nxt = 0
        self._inbox = bytearray()
        self._ahead: dict[int, Segment] = {}
        self._closing = False  # the owner wrote its last byte
        self._fin_at: int | None = None
        self._peer_fin_at: int | None = None

    # -- opening -----------------------------------------------------------------------------------------------

    def connect(self, schedule: tuple[float, ...]) -> None:
        """Send the SYN, and again as ``schedule`` says."""
        self.state = TcpState.SYN_SENT
        self._nxt = self.iss + 1
        self._open(schedule)

    def answer(self, syn: Segment) -> None:
        """Be a half-open connection of a listener."""
        self.state = TcpState.SYN_RECEIVED
        self._nxt = self.iss + 1
        self._learn_syn(syn)
        self._open(SYN_ACK_SCHEDULE)

    def _open(self, schedule: tuple[float, ...]) -> None:
        def send() -> None:
            if self._attempt == len(schedule):
                if self.accepted is not None:
                    self._vanish()
                else:
                    self._fail(Failure.TIMED_OUT)
                return
            self._send_syn()
            self._attempt += 1
            last = self._attempt == len(schedule)
            wait = schedule[-1] - schedule[-2] if last else schedule[self._attempt] - schedule[self._attempt - 1]
            self._timer = self._clock.after(wait, send)

        send()

    def _send_syn(self) -> None:
        ack = None if self.state is TcpState.SYN_SENT else self._rcv_nxt
        self._transmit(self, Segment(seq=self.iss, ack=ack, syn=True, window=RECEIVE_BUFFER))

    def _learn_syn(self, syn: Segment) -> None:
        self.irs = syn.seq
        self._rcv_nxt = syn.seq + 1
        self._window = syn.window

    def _established(self) -> None:
        self.state = TcpState.ESTABLISHED
        self._una = self._nxt = self.iss + 1
        self._base_rto = max(MIN_RTO, 2 * (self._clock.now - self._opened_at)) if self._attempt <= 1 else 1.0
        self._rto = self._base_rto
        self._stop_timer()
        if self.accepted is not None:
            accepted, self.accepted = self.accepted, None
            accepted(self)
        elif self.owner is not None:
            self.owner.tcp_connected()

    # -- the owner's calls -------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes that ``write`` would take now."""
        return max(0, SEND_BUFFER - len(self._unacked))

    def write(self, data: bytes) -> int:
        """Queue as much of ``data`` as there is room for; the number of bytes taken."""
        taken = data[: self.room]
        self._unacked += taken
        self._output()
        return len(taken)

    @property
    def readable(self) -> int:
        """Bytes that ``read`` could return."""
        return len(self._inbox)

    @property
    def at_end(self) -> bool:
        """The peer's FIN came, and everything before it was read."""
        return not self._inbox and self._peer_fin_at is not None and self._rcv_nxt > self._peer_fin_at

    def read(self, limit: int) -> bytes:
        """Up to ``limit`` bytes; tells the peer when its window opens again."""
        room = self._free_window
        data = bytes(self._inbox[:limit])
        del self._inbox[:limit]
        if room < MSS <= self._free_window and self.state is TcpState.ESTABLISHED:
            self._send_ack()
        return data

    def close(self) -> None:
        """Close as ``close(2)`` does: queued bytes still go, then FIN; RST if received bytes were not read."""
        self.owner = None
        if self.state in (TcpState.NEW, TcpState.SYN_SENT, TcpState.CLOSED):
            self._vanish()
        elif self._inbox:
            self.abort()
        else:
            self._closing = True
            self._clock.after(ORPHAN_TIMEOUT, self._vanish)
            if self.state is TcpState.SYN_RECEIVED:
                # SYN-RECEIVED goes to FIN-WAIT-1 (RFC 9293 s3.10.4): the punch is ruined.
                self.state = TcpState.ESTABLISHED
                self._una = self._nxt = self.iss + 1
                self._stop_timer()
            self._output()

    def abort(self) -> None:
        """Reset the connection."""
        if self.state in (TcpState.ESTABLISHED, TcpState.SYN_RECEIVED):
            self._transmit(self, Segment(seq=self._nxt, ack=self._rcv_nxt, rst=True))
        self._vanish()

    def abandon(self) -> None:
        """Be gone without a word: a deadline passed (TCP_USER_TIMEOUT), or the host lost its power."""
        self._vanish()

    def break_by_rst(self) -> None:
        """Something in the network resets the connection; NATs see it, the owner hears of it."""
        self._transmit(self, Segment(seq=self._nxt, ack=self._rcv_nxt, rst=True))
        self._fail(Failure.RESET)

    # -- sending -----------------------------------------------------------------------------------------------

    def _output(self) -> None:
        if self.state is not TcpState.ESTABLISHED:
            return
        while True:
            in_flight = self._nxt - self._una
            size = min(len(self._unacked) - in_flight, self._window - in_flight, MSS)
            if size <= 0:
                break
            self._transmit(self, self._segment(self._nxt, bytes(self._unacked[in_flight : in_flight + size])))
            self._nxt += size
        if self._closing and self._fin_at is None and self._nxt - self._una == len(self._unacked):
            self._fin_at = self._nxt
            self._nxt += 1
            self._send_fin()
        if self._timer is None and (self._nxt > self._una or self._unacked):
            self._timer = self._clock.after(self._rto, self._retransmit)

    def _segment(self, seq: int, data: bytes) -> Segment:
        return Segment(seq=seq, ack=self._rcv_nxt, window=self._free_window, data=data)

    def _send_ack(self) -> None:
        self._transmit(self, self._segment(self._nxt, b""))

    def _send_fin(self) -> None:
        assert self._fin_at is not None
        self._transmit(self, Segment(seq=self._fin_at, ack=self._rcv_nxt, fin=True, window=self._free_window))

    def _retransmit(self) -> None:
        self._timer = None
        self._rto = min(2 * self._rto, MAX_RTO)
        if self._fin_at is not None and self._una == self._fin_at:
            self._send_fin()
        elif self._nxt > self._una:
            self._send_oldest()
        else:
            # The window is closed: an old sequence number asks for an answer (RFC 9293 s3.8.6.1).
            self._transmit(self, self._segment(self._nxt - 1, b""))
        self._timer = self._clock.after(self._rto, self._retransmit)

    def _send_oldest(self) -> None:
        size = min(MSS, self._nxt - self._una, len(self._unacked))
        if size:
            self._transmit(self, self._segment(self._una, bytes(self._unacked[:size])))

    @property
    def _free_window(self) -> int:
        return max(0, RECEIVE_BUFFER - len(self._inbox))

    # -- receiving ---------------------------------------------------------------------------------------------

    def receive(self, segment: Segment) -> None:
        """A segment came for this 4-tuple."""
        match self.state:
            case TcpState.SYN_SENT:
                self._receive_in_syn_sent(segment)
            case TcpState.SYN_RECEIVED:
                self._receive_in_syn_received(segment)
            case TcpState.ESTABLISHED:
                self._receive_established(segment)
            case TcpState.TIME_WAIT:
                if not segment.rst:
                    self._send_ack()

    def _receive_in_syn_sent(self, segment: Segment) -> None:
        if segment.ack is not None and segment.ack != self._nxt:
            if not segment.rst:
                self._transmit(self, Segment(seq=segment.ack, rst=True))
        elif segment.rst:
            if segment.ack is not None:
                self._fail(Failure.REFUSED)
        elif segment.syn and segment.ack is not None:
            self._learn_syn(segment)
            self._established()
            self._send_ack()
        elif segment.syn:
            self.crossed = True
            self.state = TcpState.SYN_RECEIVED
            self._learn_syn(segment)
            self._send_syn()

    def _receive_in_syn_received(self, segment: Segment) -> None:
        if segment.rst:
            if segment.seq == self._rcv_nxt:
                self._fail(Failure.REFUSED)
        elif segment.syn and segment.seq != self.irs:
            self._send_ack()
        elif segment.ack is None:
            self._send_syn()
        elif segment.ack != self._nxt:
            self._transmit(self, Segment(seq=segment.ack, rst=True))
        else:
            self._established()
            self._window = segment.window
            if segment.syn:
                self._send_ack()
            else:
                self._receive_established(segment)

    def _receive_established(self, segment: Segment) -> None:
        if segment.rst:
            if self._rcv_nxt <= segment.seq <= self._rcv_nxt + RECEIVE_BUFFER:
                self._fail(Failure.RESET)
            return
        if segment.syn:
            # A retransmission, or a new connection that collides with this one: RFC 5961 s4.
            self._send_ack()
            return
        if segment.ack is not None and not self._acknowledged(segment, segment.ack):
            return
        if segment.data and self._closing:
            self.abort()  # nobody will read it
        elif segment.data or segment.fin:
            self._take_data(segment)
        elif segment.seq < self._rcv_nxt:
            self._send_ack()

    def _acknowledged(self, segment: Segment, ack: int) -> bool:
        """Take an acknowledgement; False if the connection is gone by it."""
        if ack > self._nxt:
            return True
        opened = segment.window > self._window
        self._window = segment.window
        if ack > self._una:
            del self._unacked[: ack - self._una]
            self._una = ack
        elif not opened:
            self._count_duplicate(segment)
            return True
        self._duplicates = 0
        self._rto = self._base_rto
        self._stop_timer()
        self._output()
        if self._fin_at is not None and ack > self._fin_at:
            self._stop_timer()
            if self._peer_fin_at is not None:
                self._finish()
                return False
        elif self.owner is not None and self.room >= MSS:
            self._clock.after(0.0, self._tell_writable)
        return True

    def _count_duplicate(self, segment: Segment) -> None:
        """The third duplicate tells of a loss: retransmit at once (RFC 5681 s3.2)."""
        if segment.data or segment.fin or self._nxt == self._una:
            return
        self._duplicates += 1
        if self._duplicates == DUPLICATE_ACKS:
            self._send_oldest()

    def _tell_writable(self) -> None:
        if self.owner is not None and self.state is TcpState.ESTABLISHED:
            self.owner.tcp_writable()

    def _take_data(self, segment: Segment) -> None:
        self._ahead.setdefault(segment.seq, segment)
        before = self._rcv_nxt
        while self._ahead:
            seq = min(self._ahead)
            if seq > self._rcv_nxt:
                break
            following = self._ahead.pop(seq)
            new = following.data[self._rcv_nxt - seq :][: self._free_window]
            self._inbox += new
            self._rcv_nxt += len(new)
            if following.fin and self._rcv_nxt == seq + len(following.data):
                self._peer_fin_at = self._rcv_nxt
                self._rcv_nxt += 1
        self._send_ack()
        if self._rcv_nxt == before:
            return
        if self._peer_fin_at is not None and self._fin_at is not None and self._una > self._fin_at:
            self._finish()
        elif self.owner is not None:
            self.owner.tcp_readable()

    # -- ending ------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._stop_timer()
        self.state = TcpState.TIME_WAIT
        self._clock.after(ORPHAN_TIMEOUT, self._vanish)

    def _fail(self, failure: Failure) -> None:
        owner = self.owner
        self._vanish()
        if owner is not None:
            owner.tcp_failed(failure)

    def _vanish(self) -> None:
        self._stop_timer()
        self.owner = None
        if self.state is not TcpState.CLOSED:
            self.state = TcpState.CLOSED
            self._forget(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
