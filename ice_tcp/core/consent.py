"""Consent to send on a used path, which keeps NAT bindings alive too (RFC 7675)."""

from __future__ import annotations

from typing import Protocol

from ice_tcp import stun
from ice_tcp.core.commands import Path, TcpPath
from ice_tcp.core.context import Context
from ice_tcp.core.generation import Generation
from ice_tcp.core.pairs import Pair
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import ConsentChecked, ConsentRenewed
from ice_tcp.core.transaction import Transaction, Transactions, transmit
from ice_tcp.core.verdicts import Verdict

_SILENT_INTERVALS = 2.5
"""After this many intervals without a response the path counts as silent."""

_FORBIDDEN = 403


class ConsentKeeper(Protocol):
    """Who acts when consent is in doubt."""

    def request(self, generation: Generation, pair: Pair, transaction_id: bytes, *, nominating: bool) -> bytes: ...

    def path_silent(self, component: int, now: float) -> None: ...

    def path_heard(self, component: int, now: float) -> None: ...

    def consent_lost(self, component: int, verdict: Verdict, now: float) -> None: ...


class Consent:
    """Asks for consent on one path, every ``consent.interval`` seconds, jittered by a fifth (RFC 7675 s5.1).

    Each check is a transaction of its own, sent once; a response to any of them renews consent for
    ``consent.timeout`` seconds, so a long round trip does no harm.
    """

    __slots__ = (
        "_context",
        "_expiry",
        "_generation",
        "_heard_at",
        "_keeper",
        "_next",
        "_outstanding",
        "_silent",
        "_transactions",
        "pair",
        "path",
    )

    def __init__(
        self,
        context: Context,
        transactions: Transactions,
        keeper: ConsentKeeper,
        generation: Generation,
        pair: Pair,
        path: Path,
    ) -> None:
        self._context = context
        self._transactions = transactions
        self._keeper = keeper
        self._generation = generation
        self.pair = pair
        self.path = path
        self._outstanding: list[Transaction] = []
        self._next: Timer | None = None
        self._expiry: Timer | None = None
        self._heard_at = 0.0
        self._silent = False

    def start(self, now: float) -> None:
        """The check that made the path valid counts as the first consent (RFC 7675 s5.1)."""
        if self._generation.unchecked:
            return  # to a peer without ICE, nothing but data
        if self._context.policy.consent.enabled and not self._generation.local.lite:
            self._renew(now, by_request=False)
            self._schedule(now)
        elif not isinstance(self.path, TcpPath):
            self._next = self._context.timers.set(now + self._context.policy.timeouts.keepalive, self._keep_alive)

    def stop(self) -> None:
        for timer in (self._next, self._expiry):
            if timer is not None:
                timer.cancel()
        for transaction in self._outstanding:
            self._transactions.forget(transaction)
        self._outstanding.clear()

    def heard_request(self, now: float) -> None:
        """The peer's own authenticated request came on this TCP connection (see docs/deviations.md)."""
        if self._expiry is not None:
            self._renew(now, by_request=True)

    def _schedule(self, now: float) -> None:
        interval = self._context.policy.consent.interval * self._context.rng.uniform(0.8, 1.2)
        self._next = self._context.timers.set(now + interval, self._check)

    def _keep_alive(self, now: float) -> None:
        """RFC 8445 s11: an indication, which nobody answers, keeps the NAT binding."""
        transmit(
            self._context,
            self.path,
            stun.encode(stun.MessageClass.INDICATION, stun.Method.BINDING, self._context.transaction_id()),
            now,
        )
        self._next = self._context.timers.set(now + self._context.policy.timeouts.keepalive, self._keep_alive)

    def _check(self, now: float) -> None:
        policy = self._context.policy.consent
        if not self._silent and now - self._heard_at > _SILENT_INTERVALS * policy.interval:
            self._silent = True
            self._keeper.path_silent(self.pair.component, now)
        key = self._generation.remote_key
        assert key is not None
        transaction_id = self._context.transaction_id()
        request = self._keeper.request(self._generation, self.pair, transaction_id, nominating=False)
        transaction = Transaction(transaction_id, self.path, request, key, self._answered, self._unanswered)
        self._outstanding.append(transaction)
        self.pair.consent_requests_sent += 1
        self._context.note(now, ConsentChecked(self.pair.component, self.path))
        self._transactions.start_once(transaction, now, policy.timeout)
        self._schedule(now)

    def _answered(self, transaction: Transaction, message: stun.Message, now: float) -> None:
        self._outstanding.remove(transaction)
        if message.message_class is stun.MessageClass.SUCCESS:
            self.pair.count_response(now - transaction.sent_at)
            self._renew(now, by_request=False)
        elif message.error_code is not None and message.error_code.code == _FORBIDDEN and message.has_integrity:
            # RFC 7675 s5.2: the peer revokes its consent.
            self._lose(now)

    def _unanswered(self, transaction: Transaction, _verdict: Verdict, _now: float) -> None:
        self._outstanding.remove(transaction)

    def _renew(self, now: float, *, by_request: bool) -> None:
        until = now + self._context.policy.consent.timeout
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._context.timers.set(until, self._lose)
        self._heard_at = now
        self._context.note(now, ConsentRenewed(self.pair.component, until, by_request))
        if self._silent:
            self._silent = False
            self._keeper.path_heard(self.pair.component, now)

    def _lose(self, now: float) -> None:
        self.stop()
        self._keeper.consent_lost(self.pair.component, Verdict.CONSENT_EXPIRED, now)
