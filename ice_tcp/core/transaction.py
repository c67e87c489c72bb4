"""STUN client transactions: retransmission over UDP, patience over TCP (RFC 8489 s6.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ice_tcp.core.commands import Path, SendDatagram, SendStream, TcpPath, UdpPath
from ice_tcp.core.context import Context
from ice_tcp.core.timers import Timer
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import IntegrityKey, Message

OnResponse: TypeAlias = Callable[["Transaction", Message, float], None]
OnFailure: TypeAlias = Callable[["Transaction", Verdict, float], None]


class Transaction:
    """One request and what becomes of it.

    Exactly one of ``on_response`` and ``on_failure`` is called, unless the transaction is forgotten.
    """

    __slots__ = (
        "id",
        "key",
        "last_sent_at",
        "on_failure",
        "on_response",
        "path",
        "request",
        "requests_sent",
        "rto",
        "sent_at",
        "timer",
    )

    def __init__(
        self, id_: bytes, path: Path, request: bytes, key: IntegrityKey, on_response: OnResponse, on_failure: OnFailure
    ) -> None:
        self.id = id_
        self.path = path
        self.request = request
        self.key = key
        self.on_response = on_response
        self.on_failure = on_failure
        self.requests_sent = 0
        self.rto = 0.0
        self.sent_at = 0.0
        self.last_sent_at = 0.0
        self.timer: Timer | None = None


class Transactions:
    """The outstanding transactions of one agent, found by id."""

    __slots__ = ("_by_id", "_context")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_id: dict[bytes, Transaction] = {}

    def start(self, transaction: Transaction, now: float, rto: float) -> None:
        """Send, and retransmit until ``rc`` requests are out and ``rm * rto`` more have passed.

        On a TCP path the one request gets Ti (RFC 8489 s6.2.2); TCP itself does the rest.
        """
        transaction.sent_at = now
        transaction.rto = rto
        self._by_id[transaction.id] = transaction
        self._send(transaction, now)

    def start_once(self, transaction: Transaction, now: float, patience: float) -> None:
        """Send once, wait ``patience`` seconds (a consent check, RFC 7675 s5.1)."""
        transaction.sent_at = now
        self._by_id[transaction.id] = transaction
        self._transmit(transaction, now)
        transaction.timer = self._context.timers.set(now + patience, lambda at: self._give_up(transaction, at))

    def cancel(self, transaction: Transaction) -> None:
        """Send no more, but take a response for as long as one may still come (RFC 8445 s7.3.1.4)."""
        if transaction.timer is None:
            return
        transaction.on_failure = _forgotten
        if not isinstance(transaction.path, TcpPath):
            transaction.timer.cancel()
            patience = self._context.policy.timeouts.rm * transaction.rto
            transaction.timer = self._context.timers.set(
                transaction.last_sent_at + patience, lambda at: self._give_up(transaction, at)
            )

    def forget(self, transaction: Transaction) -> None:
        """As if it had never been: neither callback is called."""
        self._by_id.pop(transaction.id, None)
        if transaction.timer is not None:
            transaction.timer.cancel()

    def clear(self) -> None:
        """Forget all."""
        for transaction in list(self._by_id.values()):
            self.forget(transaction)

    def find(self, transaction_id: bytes) -> Transaction | None:
        return self._by_id.get(transaction_id)

    def answered(self, transaction: Transaction, message: Message, now: float) -> None:
        self.forget(transaction)
        transaction.on_response(transaction, message, now)

    def fail(self, transaction: Transaction, verdict: Verdict, now: float) -> None:
        self.forget(transaction)
        transaction.on_failure(transaction, verdict, now)

    def _send(self, transaction: Transaction, now: float) -> None:
        timeouts = self._context.policy.timeouts
        self._transmit(transaction, now)
        if isinstance(transaction.path, TcpPath):
            wait, then = timeouts.tcp_check, self._give_up
        elif transaction.requests_sent < timeouts.rc:
            wait, then = transaction.rto * 2 ** (transaction.requests_sent - 1), self._send
        else:
            wait, then = timeouts.rm * transaction.rto, self._give_up
        transaction.timer = self._context.timers.set(now + wait, lambda at: then(transaction, at))

    def _transmit(self, transaction: Transaction, now: float) -> None:
        transaction.requests_sent += 1
        transaction.last_sent_at = now
        transmit(self._context, transaction.path, transaction.request, now)

    def _give_up(self, transaction: Transaction, now: float) -> None:
        self.fail(transaction, Verdict.NO_RESPONSE, now)


def transmit(context: Context, path: Path, data: bytes, now: float) -> None:
    """Ask the network, or a relay, to send one STUN message on ``path``."""
    if isinstance(path, UdpPath):
        context.commands.append(SendDatagram(path.socket, path.remote, data))
    elif isinstance(path, TcpPath):
        context.commands.append(SendStream(path.stream, data))
    else:
        context.relay(path, data, now)


def _forgotten(_transaction: Transaction, _verdict: Verdict, _now: float) -> None:
    pass
