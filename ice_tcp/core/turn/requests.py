"""Requests to a server and what comes back: challenges answered, integrity checked (RFC 8489 s6.3, s9.2.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from candidates.candidate import CandidateError, TransportAddress
from ice_tcp import stun
from ice_tcp.core.exchanges import ServerAnswered, ServerDropReason
from ice_tcp.core.outcomes import (
    Advice,
    ServerFailure,
    ServerVerdict,
    failure_of,
    no_response,
)
from ice_tcp.core.turn.credentials import Authentication, bids_down
from ice_tcp.core.turn.link import Link
from ice_tcp.core.turn.transactions import Transaction, Transactions
from ice_tcp.stun import Attribute, DecodeError, ErrorCode, ErrorNumber, IntegrityKey, Message, MessageClass

MOST_CHALLENGES = 4
"""401 and 438 responses to one request before it is given up; two are usual."""

Build: TypeAlias = Callable[[bytes], Sequence[Attribute]]
"""A request's own attributes, given its transaction id, which hides addresses."""
OnSuccess: TypeAlias = Callable[[Message, float], None]
OnFailure: TypeAlias = Callable[[ServerFailure, Message | None, float], None]
"""Takes the failure, the error response that told it, if one did, and now."""


class Request:
    """One request, through all its challenges. Exactly one of its callbacks is called, unless all are cleared."""

    __slots__ = (
        "build",
        "challenges",
        "key",
        "method",
        "on_failure",
        "on_success",
        "realm",
        "suspicion",
        "transaction",
    )

    def __init__(self, method: int, build: Build, on_success: OnSuccess, on_failure: OnFailure) -> None:
        self.method = method
        self.build = build
        self.on_success = on_success
        self.on_failure = on_failure
        self.challenges = 0
        self.key: IntegrityKey | None = None
        self.realm: bytes | None = None
        self.suspicion: ServerFailure | None = None  # what ignored answers said; reported if no other comes
        self.transaction: Transaction | None = None


class Requests:
    """The outstanding requests on one link. ``authentication`` is None where no credentials are used (STUN Binding).

    ``confirmed_at`` is the instant of the last answer that showed that the nonce is not stale.
    """

    __slots__ = ("_authentication", "_link", "_requests", "_transactions", "confirmed_at")

    def __init__(self, link: Link, authentication: Authentication | None) -> None:
        self._link = link
        self._authentication = authentication
        self._transactions = Transactions(link)
        self._requests: dict[bytes, Request] = {}
        self.confirmed_at = float("-inf")

    def send(self, method: int, build: Build, on_success: OnSuccess, on_failure: OnFailure, now: float) -> Request:
        request = Request(method, build, on_success, on_failure)
        self._start(request, now)
        return request

    def clear(self) -> None:
        """As if there had never been any; late answers are dropped."""
        self._transactions.clear()
        self._requests.clear()

    def received(self, message: Message, now: float) -> None:
        """A success or error response came."""
        transaction = self._transactions.find(message.transaction_id)
        request = self._requests.get(message.transaction_id)
        if transaction is None or request is None:
            self._link.drop(ServerDropReason.UNKNOWN_TRANSACTION, repr(message), now)
        elif message.method != request.method:
            self._link.drop(ServerDropReason.WRONG_METHOD, repr(message), now)
        elif message.message_class is MessageClass.ERROR:
            self._error_received(request, transaction, message, now)
        elif self._is_authentic(request, message, None, now):
            self._answered(transaction, None, now)
            self._end(request)
            if message.unknown_required:  # RFC 8489 s6.3.3
                request.on_failure(_not_understood(message), message, now)
            else:
                request.on_success(message, now)

    def _start(self, request: Request, now: float) -> None:
        id_ = self._link.context.transaction_id()
        attributes = list(request.build(id_))
        authentication = self._authentication
        if authentication is None:
            data = stun.encode(MessageClass.REQUEST, request.method, id_, attributes)
        else:
            request.key, request.realm = authentication.key, authentication.realm
            attributes += authentication.attributes
            data = stun.encode(
                MessageClass.REQUEST,
                request.method,
                id_,
                attributes,
                key=request.key,
                integrity=authentication.integrity,
            )
        request.suspicion = None
        request.transaction = Transaction(id_, request.method, data, lambda at: self._timed_out(request, at), now)
        self._requests[id_] = request
        self._transactions.start(request.transaction, now)

    def _end(self, request: Request) -> None:
        assert request.transaction is not None
        self._requests.pop(request.transaction.id, None)
        self._transactions.end(request.transaction)

    def _answered(self, transaction: Transaction, code: int | None, now: float) -> None:
        rtt = now - transaction.last_sent_at
        self._link.note(ServerAnswered(self._link.server, transaction.method, transaction.id, code, rtt), now)

    def _error_received(self, request: Request, transaction: Transaction, message: Message, now: float) -> None:
        try:
            error = message.error_code
        except DecodeError as cause:
            self._distrust(request, ServerDropReason.MALFORMED, _malformed(cause), message, now)
            return
        challenge = error is not None and error.code in (ErrorNumber.UNAUTHENTICATED, ErrorNumber.STALE_NONCE)
        if self._authentication is not None and error is not None and challenge:
            self._challenged(request, transaction, self._authentication, message, error, now)
        elif self._is_authentic(request, message, error, now):
            self._answered(transaction, error.code if error else None, now)
            self._end(request)
            request.on_failure(_failure_in(message, error), message, now)

    def _challenged(
        self,
        request: Request,
        transaction: Transaction,
        authentication: Authentication,
        message: Message,
        error: ErrorCode,
        now: float,
    ) -> None:
        """A 401 or 438, which need no integrity: the server may not know the key (RFC 8489 s9.2.4)."""
        try:
            failure = self._answer_to(request, authentication, message, error)
        except DecodeError as cause:
            self._distrust(request, ServerDropReason.MALFORMED, _malformed(cause), message, now)
            return
        self._answered(transaction, error.code, now)
        self._end(request)
        if failure is not None:
            request.on_failure(failure, message, now)
        else:
            request.challenges += 1
            self._start(request, now)

    def _answer_to(
        self, request: Request, authentication: Authentication, message: Message, error: ErrorCode
    ) -> ServerFailure | None:
        """None: ask again."""
        if request.challenges >= MOST_CHALLENGES:
            return failure_of(error)
        rejected = error.code == ErrorNumber.UNAUTHENTICATED and request.key is not None
        if rejected and message.attributes.get(stun.AttributeType.REALM, request.realm) == request.realm:
            return failure_of(error)  # RFC 8489 s9.2.5: MUST NOT retry with the same user, realm and password
        return authentication.challenged(message)

    def _is_authentic(self, request: Request, message: Message, error: ErrorCode | None, now: float) -> bool:
        """Whether a response other than a challenge counts (RFC 8489 s9.2.5)."""
        if self._authentication is None:
            return True
        if bids_down(message):
            reason, suspicion = ServerDropReason.BID_DOWN, ServerFailure(ServerVerdict.BID_DOWN)
        elif request.key is not None:
            if message.verify(request.key):
                self.confirmed_at = now
                return True
            text = f"an answer with error {error.code} {error.reason}" if error else "an answer"
            reason, suspicion = ServerDropReason.BAD_INTEGRITY, ServerFailure(ServerVerdict.BAD_INTEGRITY, text)
        elif error is not None and error.code == ErrorNumber.BAD_REQUEST:
            reason, suspicion = ServerDropReason.BAD_INTEGRITY, failure_of(error)
        else:
            return True
        self._distrust(request, reason, suspicion, message, now)
        return False

    def _distrust(
        self, request: Request, reason: ServerDropReason, suspicion: ServerFailure, message: Message, now: float
    ) -> None:
        """Ignore a response over datagrams, where a better one may follow; over a stream none will."""
        self._link.drop(reason, f"{suspicion.text} {message!r}".lstrip(), now)
        request.suspicion = suspicion
        if self._link.reliable:
            self._end(request)
            request.on_failure(suspicion, None, now)

    def _timed_out(self, request: Request, now: float) -> None:
        self._end(request)
        failure = request.suspicion or no_response()
        if self._link.speaks_something_else:
            failure = ServerFailure(ServerVerdict.NOT_STUN, advice=Advice.OTHER_TRANSPORT)
        request.on_failure(failure, None, now)


def transport_address(address: tuple[str, int] | None) -> TransportAddress | None:
    """An address of a message as one of ours. Raises DecodeError if it is none that a host can have."""
    if address is None:
        return None
    try:
        return TransportAddress(*address)
    except CandidateError as error:  # an IPv4-mapped IPv6 address
        raise DecodeError(str(error)) from None


def _malformed(cause: DecodeError) -> ServerFailure:
    return ServerFailure(ServerVerdict.MALFORMED, str(cause))


def _not_understood(message: Message) -> ServerFailure:
    types = ", ".join(f"0x{type_:04x}" for type_ in message.unknown_required)
    return ServerFailure(ServerVerdict.MALFORMED, f"the response has attributes that nobody here knows: {types}")


def _failure_in(message: Message, error: ErrorCode | None) -> ServerFailure:
    if error is None:
        return ServerFailure(ServerVerdict.MALFORMED, "an error response without ERROR-CODE (RFC 8489 s6.3.4)")
    if message.unknown_required:
        return _not_understood(message)
    failure = failure_of(error)
    if failure.cause is not ServerVerdict.TRY_ALTERNATE:
        return failure
    try:
        alternate = transport_address(message.alternate_server)
        domain = message.alternate_domain
    except DecodeError as cause:
        return _malformed(cause)
    if alternate is None or not alternate.port:
        return ServerFailure(ServerVerdict.MALFORMED, "a redirection to nowhere (RFC 8489 s10)")
    return ServerFailure(failure.cause, failure.text, Advice.ALTERNATE, alternate=alternate, domain=domain)
