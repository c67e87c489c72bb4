"""For each case an agent that fails it: ours, with one fault.

Most faults are boxes between the agent and the peer (`middlebox`), which break one rule of the bytes. The table
`FAULTS` says by case what to put the agent behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from interop.conformance import stun
from interop.conformance.stun import UNKNOWN_OPTIONAL, UNKNOWN_REQUIRED, Attr, Draft, Kind, Message
from interop.conformance.trial import Trial
from interop.conformance.wire import Channel, Packet, message_in
from tests.conformance.middlebox import Middlebox, plain

FAULTS: dict[str, type[Middlebox]] = {}
"""By case."""

Box = TypeVar("Box", bound=type[Middlebox])
Edit = Callable[[Message], Iterable[tuple[int, bytes]]]


def fails(*cases: str) -> Callable[[Box], Box]:
    """The agent behind this box fails these cases."""

    def register(box: Box) -> Box:
        for case in cases:
            assert case not in FAULTS, case
            FAULTS[case] = box
        return box

    return register


def sends(kind: Kind, make: Callable[[Middlebox, Message], bytes | Draft], *cases: str) -> None:
    """A box that makes something else of the messages of one class that the agent sends."""

    class Sends(Middlebox):
        def from_agent(self, packet: Packet) -> Iterable[bytes]:
            message = packet.message
            return (packet.data,) if message is None or message.kind is not kind else (bytes(make(self, message)),)

    fails(*cases)(Sends)


def attributes(kind: Kind, edit: Edit, *cases: str) -> None:
    """The same, for the attributes of a message that is right otherwise."""
    sends(kind, lambda box, message: box.resealed(message, edit(message)), *cases)


def hears(make: Callable[[Middlebox, bytes, Message | None], bytes | Draft | None], *cases: str) -> None:
    """A box that makes something else of what the peer sends; None: it is lost."""

    class Hears(Middlebox):
        def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
            made = make(self, data, message_in(data))
            return () if made is None else (bytes(made),)

    fails(*cases)(Hears)


def _set(message: Message, type_: int, value: bytes) -> list[tuple[int, bytes]]:
    return [(each, value if each == type_ else old) for each, old in plain(message)]


def _without(message: Message, type_: int) -> list[tuple[int, bytes]]:
    return [(each, value) for each, value in plain(message) if each != type_]


def _more(message: Message, type_: int, value: bytes) -> list[tuple[int, bytes]]:
    return [*plain(message), (type_, value)]


def _flipped(value: bytes | None, at: int, bits: int = 1) -> bytes:
    assert value is not None
    return value[:at] + bytes([value[at] ^ bits]) + value[at + 1 :]


# The form of messages (RFC 8489 s5, s14)

sends(Kind.ERROR, lambda _, m: _flipped(m.data, 0, 0x80), "8489-5-first-bits-are-zero")
sends(Kind.ERROR, lambda _, m: _flipped(m.data, 4), "8489-5-magic-cookie")
sends(Kind.ERROR, lambda _, m: _flipped(m.data, 3, 4), "8489-5-message-length")
sends(Kind.REQUEST, lambda _, m: _flipped(m.data, 1, 2), "8489-5-message-types")
sends(Kind.SUCCESS, lambda _, m: _flipped(m.data, 19), "8489-5-responses-carry-the-id")
sends(
    Kind.ERROR,
    lambda _, m: bytes(Draft(Kind.ERROR, m.transaction_id).raw(b"\0\x09\0\5\0\0\4\0?\0")),
    "8489-14-attributes-end-on-boundaries",
)
sends(Kind.REQUEST, lambda _, m: m.data.replace(b"\0\0\0", b"\0\0 ", 1), "8489-14-padding-is-zero")
sends(
    Kind.REQUEST,
    lambda box, m: box.resealed(m, _set(m, Attr.USERNAME, m.all(Attr.USERNAME)[0].value + b"\0")),
    "8489-14-attribute-length-is-without-padding",
)
sends(
    Kind.REQUEST,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:]).encode(type_=0x0011),
    "8489-6.1-first-message-is-a-binding-request",
)


@fails("8489-5-transaction-ids-look-random", "8489-5-retransmission-keeps-the-id")
class Counts(Middlebox):
    """Each request has the next number for its transaction id."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._number = 0

    def from_agent(self, packet: Packet) -> Iterable[bytes]:
        self._number += 1
        return (packet.data[:8] + self._number.to_bytes(12, "big") + packet.data[20:],)


@fails("8489-5-new-request-new-id")
class OneId(Middlebox):
    """All requests have the same transaction id; the answers find their request all the same."""

    SHARED = b"oneForAllOfU"

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._last = b""

    def from_agent(self, packet: Packet) -> Iterable[bytes]:
        if packet.message is None or packet.message.kind is not Kind.REQUEST:
            return (packet.data,)
        self._last = packet.message.transaction_id
        return (bytes(self.resealed(replace(packet.message, transaction_id=self.SHARED), plain(packet.message))),)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or message.transaction_id != self.SHARED:
            return (data,)
        return (bytes(self.resealed(replace(message, transaction_id=self._last), plain(message), of_agent=False)),)


attributes(Kind.ERROR, lambda m: _more(m, Attr.SOFTWARE, b"s" * 600), "8489-6.1-messages-are-small")
attributes(
    Kind.SUCCESS,
    lambda m: _set(m, Attr.XOR_MAPPED_ADDRESS, _flipped(m.get(Attr.XOR_MAPPED_ADDRESS), 7)),
    "8489-14.2-mapped-address-ipv4",
    "8489-14.2-mapped-address-ipv6",
    "8489-6.3.1.1-each-source-is-told-its-own-address",
)
attributes(
    Kind.SUCCESS,
    lambda m: _set(m, Attr.XOR_MAPPED_ADDRESS, _flipped(m.get(Attr.XOR_MAPPED_ADDRESS), 0)),
    "8489-14.1-mapped-address-begins-with-zero",
)
attributes(Kind.REQUEST, lambda m: _set(m, Attr.USERNAME, b"u" * 600), "8489-14.3-username-is-short-text")
sends(
    Kind.SUCCESS,
    lambda _, m: (
        Draft(m.kind, m.transaction_id)
        .add(Attr.XOR_MAPPED_ADDRESS, m.get(Attr.XOR_MAPPED_ADDRESS) or b"")
        .integrity("wrong")
        .fingerprint()
    ),
    "8489-14.5-integrity-of-responses",
    "8489-9.1.3-sha1-is-answered-with-sha1",
    "8489-9.1.3-sha256-is-answered-with-sha256",
)
sends(
    Kind.REQUEST,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-32]).integrity("wrong").fingerprint(),
    "8489-14.5-integrity-of-requests",
)
sends(
    Kind.ERROR,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:]).add(Attr.SOFTWARE, b"late"),
    "8489-14.7-fingerprint-is-last",
)
sends(Kind.ERROR, lambda _, m: _flipped(m.data, len(m.data) - 1), "8489-14.7-fingerprint-is-right")
sends(Kind.ERROR, lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-8]), "8489-7-fingerprint-everywhere")
attributes(
    Kind.ERROR,
    lambda m: _set(m, Attr.ERROR_CODE, b"\0\0\4\x7bwhat"),
    "8489-14.8-error-code-class-and-number",
)
attributes(Kind.ERROR, lambda m: _set(m, Attr.ERROR_CODE, b"\1\0\4\0what"), "8489-14.8-error-code-reserved-bits")
attributes(Kind.ERROR, lambda m: _set(m, Attr.ERROR_CODE, b"\0\0\4\0" + b"o" * 200), "8489-14.8-reason-phrase")
attributes(Kind.ERROR, lambda m: _without(m, Attr.ERROR_CODE), "8489-6.3.1.1-errors-have-a-code")
attributes(Kind.ERROR, lambda m: _without(m, Attr.UNKNOWN_ATTRIBUTES), "8489-14.8-unknown-attributes-are-listed")
sends(
    Kind.ERROR,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-32]).fingerprint(),
    "8489-6.3.1.1-refusal-is-authenticated",
)
sends(
    Kind.ERROR,
    lambda box, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-8]).integrity(box.trial.told.pwd).fingerprint(),
    "8489-9.1.3-refusals-are-not-signed",
)
attributes(Kind.SUCCESS, lambda m: _more(m, Attr.USERNAME, b"a:b"), "8489-9.1.3-no-username-in-responses")
sends(
    Kind.SUCCESS,
    lambda box, m: (
        box.resealed(replace(m, attributes=()), plain(m))
        .integrity(box.trial.told.pwd)
        .integrity_sha256(box.trial.told.pwd)
        .fingerprint()
    ),
    "8489-9.1.3-one-integrity-in-a-response",
)


# Requests that must not be granted (RFC 8489 s6.3, s9.1.3)


@fails(
    "8489-6.3-wrong-magic-cookie",
    "8489-6.3-first-bits-set",
    "8489-6.3-length-too-long",
    "8489-6.3-length-too-short",
    "8489-6.3-length-not-of-words",
    "8489-6.3-attribute-beyond-the-end",
    "8489-6.3-unsupported-method",
    "8489-6.3-response-out-of-the-blue",
    "8489-6.3-fingerprint-wrong",
    "8489-7-fingerprint-missing",
    "8489-6.3.1-unknown-required-attribute",
    "8489-6.3.2-indications-get-no-answer",
    "8489-9.1.3-bad-indications-get-no-answer",
    "8489-9.1.3-neither-username-nor-integrity",
    "8489-9.1.3-no-integrity",
    "8489-9.1.3-no-username",
    "8489-9.1.3-unknown-username",
    "8489-9.1.3-wrong-password",
    "8489-9.1.3-integrity-of-another-message",
    "8489-9.1.3-the-stronger-integrity-counts",
)
class Gullible(Middlebox):
    """Whatever comes is taken for a right request, if it is no answer to one of the agent's."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._asked: set[bytes] = set()

    def from_agent(self, packet: Packet) -> Iterable[bytes]:
        self._asked.add(packet.data[8:20])
        return (packet.data,)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        if data[8:20] in self._asked:
            return (data,)
        return (bytes(self.trial.peer.request(transaction_id=data[8:20])),)


# Requests that must be granted


def _refused(box: Middlebox, message: Message) -> Draft:
    """What the agent refuses, in place of a request."""
    return box.resealed(message, _more(message, UNKNOWN_REQUIRED, b"what"), of_agent=False)


def refuses(unwanted: Callable[[Message], object], *cases: str) -> None:
    """An agent that refuses requests for something that does no harm."""
    hears(lambda box, data, m: _refused(box, m) if m is not None and unwanted(m) else data, *cases)


refuses(lambda m: m.has(UNKNOWN_OPTIONAL), "8489-6.3-unknown-optional-attribute")
refuses(lambda m: m.kind is Kind.REQUEST and m.has(Attr.XOR_MAPPED_ADDRESS), "8489-6.3-unexpected-attribute")
refuses(lambda m: any(any(each.padding) for each in m.attributes), "8489-14-padding-is-ignored")
refuses(lambda m: len(m.all(Attr.USERNAME)) > 1, "8489-14-first-of-duplicates-counts")
refuses(lambda m: m.has(UNKNOWN_REQUIRED), "8489-9-what-follows-integrity-is-ignored")


@fails("8489-6.3.1-retransmission-is-answered-alike")
class Forgetful(Middlebox):
    """A request is refused when it comes again."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._seen: set[bytes] = set()

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = stun.read(data)
        again = message.transaction_id in self._seen
        self._seen.add(message.transaction_id)
        return (bytes(_refused(self, message)) if again else data,)


@fails("8489-6.3.1.2-answers-come-from-where-the-request-went")
class ElsewhereAnswers(Middlebox):
    """Answers come from another port."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        is_answer = packet.message is not None and packet.message.kind is Kind.SUCCESS
        return (replace(packet, far=(packet.far[0], packet.far[1] ^ 1)) if is_answer else packet,)
