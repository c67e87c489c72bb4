"""STUN transactions with a server: retransmission over datagrams, patience over streams (RFC 8489 s6.2)."""

from __future__ import annotations

from collections.abc import Callable

from ice_tcp.core.exchanges import ServerRequestSent
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn.link import Link


class Transaction:
    """One request under one transaction id. ``timed_out(now)`` is called once, unless it ended before."""

    __slots__ = ("id", "last_sent_at", "method", "request", "sendings", "started_at", "timed_out", "timer")

    def __init__(self, id_: bytes, method: int, request: bytes, timed_out: Callable[[float], None], now: float) -> None:
        self.id = id_
        self.method = method
        self.request = request
        self.timed_out = timed_out
        self.sendings = 0
        self.started_at = now
        self.last_sent_at = now
        self.timer: Timer | None = None


class Transactions:
    """The outstanding transactions on one link, by id; their times are those of ``policy.timeouts``."""

    __slots__ = ("_by_id", "_link")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._by_id: dict[bytes, Transaction] = {}

    def find(self, id_: bytes) -> Transaction | None:
        return self._by_id.get(id_)

    def start(self, transaction: Transaction, now: float) -> None:
        self._by_id[transaction.id] = transaction
        self._link.note(ServerRequestSent(self._link.server, transaction.method, transaction.id), now)
        self._send(transaction, now)

    def end(self, transaction: Transaction) -> None:
        """It was answered, or nobody wants to know any more."""
        self._by_id.pop(transaction.id, None)
        if transaction.timer is not None:
            transaction.timer.cancel()

    def clear(self) -> None:
        for transaction in list(self._by_id.values()):
            self.end(transaction)

    def _send(self, transaction: Transaction, now: float) -> None:
        timeouts = self._link.context.policy.timeouts
        transaction.sendings += 1
        transaction.last_sent_at = now
        if self._link.reliable:
            wait, then = timeouts.tcp_check, self._time_out
        elif transaction.sendings < timeouts.rc:
            wait, then = timeouts.rto * 2 ** (transaction.sendings - 1), self._send
        else:
            wait, then = timeouts.rm * timeouts.rto, self._time_out
        transaction.timer = self._link.context.timers.set(now + wait, lambda at: then(transaction, at))
        self._link.send(transaction.request, now)

    def _time_out(self, transaction: Transaction, now: float) -> None:
        self.end(transaction)
        transaction.timed_out(now)
