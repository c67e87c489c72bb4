"""The peer's messages: responses to our requests, and its own checks, which we answer (RFC 8445 s7.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from candidates.candidate import CandidateError, TransportAddress
from ice_tcp import stun
from ice_tcp.core.commands import Path
from ice_tcp.core.context import Context
from ice_tcp.core.generation import Generation
from ice_tcp.core.paths import Base, Stream
from ice_tcp.core.roles import Roles
from ice_tcp.core.trace import DropReason, MessageDropped, RequestReceived, RoleConflict
from ice_tcp.core.transaction import Transaction, Transactions, transmit
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import Integrity

_REASONS = {400: "Bad Request", 401: "Unauthorized", 420: "Unknown Attribute", 487: "Role Conflict"}


@dataclass(frozen=True, slots=True)
class InboundCheck:
    """An authenticated Binding request of the peer."""

    base: Base
    path: Path
    source: TransportAddress
    stream: Stream | None
    priority: int
    use_candidate: bool


class Checked(Protocol):
    """Who acts on the peer's messages."""

    def authenticated(self, path: Path) -> None: ...

    def switch_role(self, now: float) -> None: ...

    def permits(self, base: Base, source: TransportAddress) -> bool:
        """Whether the policy lets this address be a remote candidate."""

    def checked(self, generation: Generation, check: InboundCheck, now: float) -> None:
        """The peer checked a path; our answer is on its way."""


class Binding:
    """Takes the STUN messages of all paths of one agent. What it cannot use it drops and traces; nothing raises."""

    __slots__ = ("_checked", "_context", "_generation_of", "_roles", "_transactions")

    def __init__(
        self,
        context: Context,
        roles: Roles,
        transactions: Transactions,
        generation_of: Callable[[str], Generation | None],
        checked: Checked,
    ) -> None:
        """``generation_of`` finds a generation by our username fragment."""
        self._context = context
        self._roles = roles
        self._transactions = transactions
        self._generation_of = generation_of
        self._checked = checked

    def received(
        self, data: bytes, base: Base, path: Path, source: TransportAddress, stream: Stream | None, now: float
    ) -> None:
        """One STUN message came on ``path``, which belongs to ``base``."""
        try:
            message = stun.decode(data)
            if message.method != stun.Method.BINDING:
                self._drop(path, DropReason.NOT_BINDING, f"method {message.method}", now)
            elif message.message_class is stun.MessageClass.REQUEST:
                self._request(message, base, path, source, stream, now)
            elif message.message_class is stun.MessageClass.INDICATION:
                self._drop(path, DropReason.INDICATION, "", now)
            else:
                self._response(message, path, now)
        except (stun.DecodeError, CandidateError) as error:
            self._drop(path, DropReason.MALFORMED, str(error), now)

    def _response(self, message: stun.Message, path: Path, now: float) -> None:
        transaction = self._transactions.find(message.transaction_id)
        if transaction is None:
            self._drop(path, DropReason.UNKNOWN_TRANSACTION, "", now)
            return
        if path != transaction.path:
            self._asymmetric(message, transaction, path, now)
            return
        error = message.error_code if message.message_class is stun.MessageClass.ERROR else None
        if message.has_integrity:
            if message.integrity is not Integrity.SHA1 or not message.verify(transaction.key):
                # RFC 8489 s9.1.4: the algorithm is the request's, and our requests have SHA-1.
                self._drop(path, DropReason.BAD_INTEGRITY, "response", now)
                return
            self._checked.authenticated(path)
        elif error is None or error.code not in (400, 401):
            # RFC 8489 s9.1.4: only these two cannot be authenticated.
            self._drop(path, DropReason.BAD_INTEGRITY, "response without integrity", now)
            return
        if message.unknown_required:
            self._drop(path, DropReason.MALFORMED, "unknown comprehension-required attribute", now)
            return
        # Read what the owner will read before the transaction is gone: a malformed value must not end it.
        mapped = message.xor_mapped_address
        if mapped is not None and TransportAddress(*mapped).port == 0:
            raise stun.DecodeError("XOR-MAPPED-ADDRESS has port 0")
        self._transactions.answered(transaction, message, now)

    def _asymmetric(self, message: stun.Message, transaction: Transaction, path: Path, now: float) -> None:
        """RFC 8445 s7.2.5.2.1: a response from elsewhere than the request went to means that the check failed."""
        self._drop(path, DropReason.ASYMMETRIC, "", now)
        if message.has_integrity and message.verify(transaction.key):
            self._transactions.fail(transaction, Verdict.ASYMMETRIC, now)

    def _request(
        self,
        message: stun.Message,
        base: Base,
        path: Path,
        source: TransportAddress,
        stream: Stream | None,
        now: float,
    ) -> None:
        if not message.has_fingerprint:
            self._drop(path, DropReason.NO_FINGERPRINT, "", now)
            return
        if not self._checked.permits(base, source):
            self._drop(path, DropReason.POLICY, "remote", now)
            return
        username = message.username
        if username is None or not message.has_integrity:
            self._refuse(message, path, 400, None, now)
            return
        generation = self._generation_of(username.partition(":")[0])
        if generation is None or not message.verify(generation.local_key):
            self._refuse(message, path, 401, None, now)
            return
        if message.unknown_required:
            attributes = [stun.unknown_attributes(message.unknown_required)]
            self._refuse(message, path, 420, generation, now, attributes)
            return
        priority = message.priority
        claims = (message.ice_controlling, message.ice_controlled)
        if priority is None or claims.count(None) != 1:
            self._refuse(message, path, 400, generation, now)
            return
        if self._roles.conflicts(message):
            if self._roles.keeps_role_against(message):
                self._context.note(now, RoleConflict(switched=False))
                self._refuse(message, path, 487, generation, now)
                return
            self._checked.switch_role(now)
        use_candidate = message.use_candidate and claims[0] is not None
        self._accept(message, path, source, generation, now)
        self._context.note(now, RequestReceived(path, None, use_candidate, message.transaction_id))
        self._checked.authenticated(path)
        self._checked.checked(generation, InboundCheck(base, path, source, stream, priority, use_candidate), now)

    def _accept(
        self, message: stun.Message, path: Path, source: TransportAddress, generation: Generation, now: float
    ) -> None:
        mapped = stun.xor_mapped_address(source.host.partition("%")[0], source.port, message.transaction_id)
        self._answer(message, path, stun.MessageClass.SUCCESS, [mapped], generation, now)

    def _refuse(
        self,
        message: stun.Message,
        path: Path,
        code: int,
        generation: Generation | None,
        now: float,
        attributes: list[tuple[int, bytes]] | None = None,
    ) -> None:
        """An error response, authenticated where the request was (RFC 8489 s9.1.3)."""
        self._context.note(now, RequestReceived(path, code, transaction_id=message.transaction_id))
        error = stun.error_code(code, _REASONS[code])
        self._answer(message, path, stun.MessageClass.ERROR, [error, *(attributes or ())], generation, now)

    def _answer(
        self,
        message: stun.Message,
        path: Path,
        message_class: stun.MessageClass,
        attributes: list[tuple[int, bytes]],
        generation: Generation | None,
        now: float,
    ) -> None:
        key = generation.local_key if generation is not None else None
        # RFC 8489 s9.1.3: SHA-256 where the request had it, and never both.
        algorithm = Integrity.SHA256 if key is not None and message.integrity is not Integrity.SHA1 else Integrity.SHA1
        answer = stun.encode(
            message_class, stun.Method.BINDING, message.transaction_id, attributes, key=key, integrity=algorithm
        )
        transmit(self._context, path, answer, now)

    def _drop(self, path: Path, reason: DropReason, detail: str, now: float) -> None:
        self._context.note(now, MessageDropped(path, reason, detail))
