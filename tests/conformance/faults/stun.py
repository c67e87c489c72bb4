"""Faults for the cases of STUN: the form of messages, requests, answers, transactions (RFC 8489)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from interop.conformance.stun import UNKNOWN_OPTIONAL, UNKNOWN_REQUIRED, Attr, Draft, Kind
from interop.conformance.trial import Trial
from interop.conformance.wire import Channel, Packet, message_in
from tests.conformance import boxes
from tests.conformance.agents import Boasts, scaled, wrapping
from tests.conformance.faults.registry import (
    attributes,
    behind,
    flipped,
    more,
    refuses,
    replaced,
    sends,
    within,
    without,
)
from tests.conformance.middlebox import Middlebox, plain

# The form of messages (RFC 8489 s5, s14)

sends(Kind.ERROR, lambda _, m: flipped(m.data, 0, 0x80), "8489-5-first-bits-are-zero")
sends(Kind.ERROR, lambda _, m: flipped(m.data, 4), "8489-5-magic-cookie")
sends(Kind.ERROR, lambda _, m: flipped(m.data, 3, 4), "8489-5-message-length")
sends(Kind.REQUEST, lambda _, m: flipped(m.data, 1, 2), "8489-5-message-types")
sends(Kind.SUCCESS, lambda _, m: flipped(m.data, 19), "8489-5-responses-carry-the-id")
sends(
    Kind.ERROR,
    lambda _, m: bytes(Draft(Kind.ERROR, m.transaction_id).raw(b"\0\x09\0\5\0\0\4\0?\0")),
    "8489-14-attributes-end-on-boundaries",
)
sends(Kind.REQUEST, lambda _, m: m.data.replace(b"\0\0\0", b"\0\0 ", 1), "8489-14-padding-is-zero")
sends(
    Kind.REQUEST,
    lambda box, m: box.resealed(m, replaced(m, Attr.USERNAME, m.all(Attr.USERNAME)[0].value + b"\0")),
    "8489-14-attribute-length-is-without-padding",
)
sends(
    Kind.REQUEST,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:]).encode(type_=0x0011),
    "8489-6.1-first-message-is-a-binding-request",
)


class Counts(Middlebox):
    """Each request has the next number for its transaction id."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._number = 0

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        self._number += 1
        return (packet.data[:8] + self._number.to_bytes(12, "big") + packet.data[20:],)


behind(Counts, "8489-5-transaction-ids-look-random", "8489-5-retransmission-keeps-the-id")


class OneId(Middlebox):
    """All requests have the same transaction id; the answers find their request all the same."""

    SHARED = b"oneForAllOfU"

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._last = b""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if packet.message is None or packet.message.kind is not Kind.REQUEST:
            return (packet.data,)
        self._last = packet.message.transaction_id
        return (bytes(self.resealed(replace(packet.message, transaction_id=self.SHARED), plain(packet.message))),)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or message.transaction_id != self.SHARED:
            return (data,)
        return (bytes(self.resealed(replace(message, transaction_id=self._last), plain(message), of_agent=False)),)


behind(OneId, "8489-5-new-request-new-id")


attributes(Kind.ERROR, lambda m: more(m, Attr.SOFTWARE, b"s" * 600), "8489-6.1-messages-are-small")
attributes(
    Kind.SUCCESS,
    lambda m: replaced(m, Attr.XOR_MAPPED_ADDRESS, flipped(m.get(Attr.XOR_MAPPED_ADDRESS), 7)),
    "8489-14.2-mapped-address-ipv4",
    "8489-14.2-mapped-address-ipv6",
    "8489-6.3.1.1-each-source-is-told-its-own-address",
    "8489-6.3.1.2-each-connection-gets-its-own-answers",
)
attributes(
    Kind.SUCCESS,
    lambda m: replaced(m, Attr.XOR_MAPPED_ADDRESS, flipped(m.get(Attr.XOR_MAPPED_ADDRESS), 0)),
    "8489-14.1-mapped-address-begins-with-zero",
)
attributes(Kind.REQUEST, lambda m: replaced(m, Attr.USERNAME, b"u" * 600), "8489-14.3-username-is-short-text")
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
sends(Kind.ERROR, lambda _, m: flipped(m.data, len(m.data) - 1), "8489-14.7-fingerprint-is-right")
sends(Kind.ERROR, lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-8]), "8489-7-fingerprint-everywhere")
attributes(
    Kind.ERROR,
    lambda m: replaced(m, Attr.ERROR_CODE, b"\0\0\4\x7bwhat"),
    "8489-14.8-error-code-class-and-number",
)
attributes(Kind.ERROR, lambda m: replaced(m, Attr.ERROR_CODE, b"\1\0\4\0what"), "8489-14.8-error-code-reserved-bits")
attributes(Kind.ERROR, lambda m: replaced(m, Attr.ERROR_CODE, b"\0\0\4\0" + b"o" * 200), "8489-14.8-reason-phrase")
attributes(Kind.ERROR, lambda m: without(m, Attr.ERROR_CODE), "8489-6.3.1.1-errors-have-a-code")
attributes(Kind.ERROR, lambda m: without(m, Attr.UNKNOWN_ATTRIBUTES), "8489-14.8-unknown-attributes-are-listed")
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
attributes(Kind.SUCCESS, lambda m: more(m, Attr.USERNAME, b"a:b"), "8489-9.1.3-no-username-in-responses")
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


behind(
    boxes.Gullible,
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


# Requests that must be granted


refuses(lambda m: m.has(UNKNOWN_OPTIONAL), "8489-6.3-unknown-optional-attribute")
refuses(lambda m: m.kind is Kind.REQUEST and m.has(Attr.XOR_MAPPED_ADDRESS), "8489-6.3-unexpected-attribute")
refuses(lambda m: any(any(each.padding) for each in m.attributes), "8489-14-padding-is-ignored")
refuses(lambda m: len(m.all(Attr.USERNAME)) > 1, "8489-14-first-of-duplicates-counts")
refuses(lambda m: m.has(UNKNOWN_REQUIRED), "8489-9-what-follows-integrity-is-ignored")
refuses(lambda m: len(m.username or "") > 600, "8489-14.3-a-long-username")


behind(boxes.Repeats, "8489-6.3.1-retransmission-is-answered-alike")


class ElsewhereAnswers(Middlebox):
    """Answers come from another port."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        is_answer = packet.message is not None and packet.message.kind is Kind.SUCCESS
        return (replace(packet, far=(packet.far[0], packet.far[1] ^ 1)) if is_answer else packet,)


behind(ElsewhereAnswers, "8489-6.3.1.2-answers-come-from-where-the-request-went")


# Transactions of the agent (RFC 8489 s6.2, s9.1.4)


behind(boxes.LosesTheSecond, "8489-6.2.1-retransmissions-double")


behind(boxes.Stutters, "8489-6.2.1-seven-sendings", "8489-6.2.2-no-retransmission-over-tcp")


behind(
    boxes.Deaf,
    "8489-6.2.1-an-answer-ends-retransmission",
    "8489-6.3.4-an-error-without-a-code",
    "8489-6.3.4-an-error-from-400-on",
    "8489-6.3.4-an-error-of-no-known-class",
    "8489-14.8-reserved-bits-of-an-error-code",
)


behind(boxes.DeafStutterer, "8489-6.2.1-late-answers-count-until-the-end")


behind(boxes.Insists, "8489-6.3.4-an-error-from-500-on")


behind(
    boxes.Trusting,
    "8489-6.3-an-answer-to-something-else",
    "8489-6.3.3-unknown-attribute-in-a-success",
    "8489-6.3.3-no-mapped-address",
    "8489-9.1.4-an-answer-with-wrong-integrity",
    "8489-9.1.4-an-answer-without-integrity",
    "8489-9.1.4-an-answer-with-another-algorithm",
    "8489-9.1.4-a-forged-answer-over-tcp-is-discarded",
    "8489-9.1.4-a-forged-role-conflict",
)


behind(boxes.HangsUp, "8489-6.2.2-the-server-keeps-the-connection")


behind(boxes.CallsBack, "8489-6.2.2-no-connection-back")


within(wrapping(Boasts), "8489-6.2.2-a-reset-ends-the-transaction")
within(scaled(4), "8489-6.2.2-answers-over-tcp-come-too-late")
within(scaled(0.25), "8489-6.2.2-answers-over-tcp-count-until-ti")
