"""Our side of connectivity checks: connect where needed, ask, understand the answer (RFC 8445 s7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from candidates.candidate import CandidateType, TransportAddress
from ice_tcp import stun
from ice_tcp.core.commands import Path, TcpPath
from ice_tcp.core.context import Context
from ice_tcp.core.events import PairState, Role
from ice_tcp.core.generation import Generation
from ice_tcp.core.pairs import Pair
from ice_tcp.core.paths import Connections, Dial, Stream
from ice_tcp.core.roles import Roles
from ice_tcp.core.trace import CheckAnswered, CheckSent
from ice_tcp.core.transaction import Transaction, Transactions
from ice_tcp.core.verdicts import Verdict

_ROLE_CONFLICT = 487
_TURNED_AWAY = (Verdict.RESET, Verdict.CLOSED)
_KNOCKS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds until the next try at a relay that turned us away: signaling takes about so long."""
_ERROR_VERDICTS = {400: Verdict.BAD_REQUEST, 401: Verdict.UNAUTHORIZED, 420: Verdict.UNKNOWN_ATTRIBUTE}


class Outcomes(Protocol):
    """Who wants to know what became of a check."""

    def is_authenticated(self, path: Path) -> bool: ...

    def check_succeeded(self, generation: Generation, pair: Pair, now: float) -> None: ...

    def check_failed(self, generation: Generation, pair: Pair, now: float) -> None: ...

    def switch_role(self, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Check:
    """What a request said of us when it left."""

    generation: Generation
    pair: Pair
    role: Role
    nominating: bool


class Checks:
    """Performs the checks of all generations of one agent."""

    __slots__ = ("_connections", "_context", "_outcomes", "_roles", "_transactions")

    def __init__(
        self, context: Context, roles: Roles, transactions: Transactions, connections: Connections, outcomes: Outcomes
    ) -> None:
        self._context = context
        self._roles = roles
        self._transactions = transactions
        self._connections = connections
        self._outcomes = outcomes

    def startable(self, pair: Pair) -> bool:
        """Whether a check could go out now.

        A TCP pair needs a connection, or room for an attempt (RFC 6544 s12); a relay must let it through.
        """
        if pair.stream is not None:
            return True
        if not pair.base.may_reach(pair.remote.address.host):
            return False
        if not pair.is_tcp:
            return True
        if not pair.dials:
            return False
        base, remote = pair.base, pair.remote.address
        return self._connections.between(base, remote) is not None or self._connections.may_dial(base, remote)

    def perform(self, generation: Generation, pair: Pair, now: float) -> None:
        """Send the pair's check, after opening its connection if it has none."""
        if pair.is_tcp and pair.stream is None:
            pair.stream = self._connections.between(pair.base, pair.remote.address)
        if not pair.is_tcp or pair.stream is not None:
            self._send(generation, pair, now)
        elif pair.dial is None:
            self._dial(generation, pair, now)
        generation.checklist.begin(pair, now)

    def abandon(self, pair: Pair) -> None:
        """Stop what is under way for a pair that is no longer wanted."""
        if pair.dial is not None:
            self._connections.cancel(pair.dial)
            pair.dial = None
        if pair.transaction is not None:
            self._transactions.cancel(pair.transaction)
            pair.transaction = None

    def cancel(self, pair: Pair) -> None:
        """Make way for a new check; a late response to the old one still counts (RFC 8445 s7.3.1.4)."""
        if pair.transaction is not None:
            self._transactions.cancel(pair.transaction)
            pair.transaction = None

    def knocks_again(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> bool:
        """Whether a pair that lost its connection, or could not get one, has another try: nothing is lost yet.

        A relay of TCP turns away whom its owner has not let in (RFC 6062 s5.3), and we may have heard of it before
        the owner heard of us (docs/deviations.md).
        """
        may_change = pair.remote.type is CandidateType.RELAY and verdict in _TURNED_AWAY
        if not (may_change and pair.dials and pair.state is PairState.IN_PROGRESS and pair.knocks < len(_KNOCKS)):
            return False
        if pair.transaction is not None:
            self._transactions.forget(pair.transaction)
        pair.stream = pair.transaction = None

        def knock(at: float) -> None:
            idle = pair.state is PairState.IN_PROGRESS and pair.stream is None and pair.dial is None
            if idle and generation.checklist.get(pair.key) is pair:
                generation.checklist.trigger(pair, at, at_once=False)

        self._context.timers.set(now + _KNOCKS[pair.knocks], knock)
        pair.knocks += 1
        return True

    def _dial(self, generation: Generation, pair: Pair, now: float) -> None:
        def opened(_dial: Dial, stream: Stream, at: float) -> None:
            pair.dial = None
            pair.stream = stream
            if pair.state is PairState.IN_PROGRESS and pair.transaction is None:
                self._send(generation, pair, at)
            generation.checklist.wake(at)

        def failed(_dial: Dial, verdict: Verdict, at: float) -> None:
            pair.dial = None
            if not self.knocks_again(generation, pair, verdict, at):
                self._fail(generation, pair, verdict, at)

        pair.dial = self._connections.dial(pair.id, pair.base, pair.remote.address, opened, failed, now)

    def _send(self, generation: Generation, pair: Pair, now: float) -> None:
        path = pair.path
        assert path is not None and generation.remote_key is not None
        self.cancel(pair)
        check = _Check(generation, pair, self._roles.role, pair.nominating)
        transaction_id = self._context.transaction_id()
        request = self.request(generation, pair, transaction_id, nominating=check.nominating)

        def answered(transaction: Transaction, message: stun.Message, at: float) -> None:
            self._answered(check, transaction, message, at)

        def failed(transaction: Transaction, verdict: Verdict, at: float) -> None:
            if pair.transaction is transaction:
                pair.transaction = None
                self._fail(generation, pair, verdict, at)

        transaction = Transaction(transaction_id, path, request, generation.remote_key, answered, failed)
        pair.transaction = transaction
        pair.requests_sent += 1
        if pair.requests_sent == 1 and not (pair.is_tcp or pair.base.is_relayed):
            self._context.begin_flow(pair.base.host, pair.base.transport, pair.base)
        known = self._outcomes.is_authenticated(path)
        self._context.note(
            now,
            CheckSent(
                pair.id, path, transaction_id, check.nominating, known, not known and not isinstance(path, TcpPath)
            ),
        )
        self._transactions.start(transaction, now, self._rto(generation))

    def request(self, generation: Generation, pair: Pair, transaction_id: bytes, *, nominating: bool) -> bytes:
        """A Binding request for the pair (RFC 8445 s7.1)."""
        attributes = [
            stun.username(generation.username),
            stun.priority(pair.local.check_priority),
            self._roles.attribute(),
        ]
        if nominating and self._roles.controlling:
            attributes.append(stun.use_candidate())
        return stun.encode(
            stun.MessageClass.REQUEST, stun.Method.BINDING, transaction_id, attributes, key=generation.remote_key
        )

    def _rto(self, generation: Generation) -> float:
        """RTO = MAX (500 ms, Ta * (Num-Waiting + Num-In-Progress)) (RFC 8445 s14.3)."""
        busy = sum(pair.state in (PairState.WAITING, PairState.IN_PROGRESS) for pair in generation.checklist)
        return max(self._context.policy.timeouts.rto, generation.checklist.ta * busy)

    def _answered(self, check: _Check, transaction: Transaction, message: stun.Message, now: float) -> None:
        generation, pair = check.generation, check.pair
        if pair.transaction is transaction:
            pair.transaction = None
        rtt = now - transaction.last_sent_at
        error = message.error_code if message.message_class is stun.MessageClass.ERROR else None
        self._context.note(now, CheckAnswered(pair.id, transaction.id, error.code if error else None, rtt))
        if generation.checklist.get(pair.key) is not pair:
            return
        pair.count_response(rtt if transaction.requests_sent == 1 else None)
        pair.answered_in = now - transaction.sent_at
        if error is not None:
            self._refused(generation, pair, error.code, check.role, now)
            return
        mapped = message.xor_mapped_address
        if mapped is None:
            self._fail(generation, pair, Verdict.BAD_REQUEST, now)
            return
        seen = generation.seen_as(pair, TransportAddress(*mapped), now)
        pair.seen = seen if seen is not pair.local.candidate else None
        if not pair.nominating:
            self.cancel(pair)
        if pair.state is not PairState.SUCCEEDED:
            generation.checklist.succeed(pair, now)
        if check.nominating and self._roles.controlling:
            pair.nominated = True
        self._outcomes.check_succeeded(generation, pair, now)

    def _refused(self, generation: Generation, pair: Pair, code: int, claimed: Role, now: float) -> None:
        if code != _ROLE_CONFLICT:
            self._fail(generation, pair, _ERROR_VERDICTS.get(code, Verdict.ERROR_RESPONSE), now)
            return
        if self._roles.role is claimed:
            self._outcomes.switch_role(now)
            self._roles.redraw()
        pair.nominating = False
        generation.checklist.trigger(pair, now, at_once=True)

    def _fail(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> None:
        if generation.checklist.get(pair.key) is not pair:
            return
        generation.checklist.fail(pair, verdict, now)
        self._outcomes.check_failed(generation, pair, now)
