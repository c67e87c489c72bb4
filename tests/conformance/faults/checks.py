"""Faults for connectivity checks: what they say, when they come, how they are answered (RFC 8445 s6, s7)."""

from __future__ import annotations

import secrets

from interop.conformance.stun import Attr, Draft, Kind, Message, xor_address
from tests.conformance import boxes
from tests.conformance.agents import Boasts, IgnoresPacing, SelectsHosts, adding, wrapping
from tests.conformance.faults.registry import attributes, behind, more, refuses, replaced, sends, within
from tests.conformance.middlebox import Middlebox, plain

# What a check says (RFC 8445 s7.1, s7.2, s16.1)


def _other_role(message: Message) -> list[tuple[int, bytes]]:
    swap = {int(Attr.ICE_CONTROLLED): Attr.ICE_CONTROLLING, int(Attr.ICE_CONTROLLING): Attr.ICE_CONTROLLED}
    return [(swap.get(type_, type_), value) for type_, value in plain(message)]


def _tie_breaker(message: Message, number: bytes) -> list[tuple[int, bytes]]:
    return [(type_, number if type_ in boxes.ROLES else value) for type_, value in plain(message)]


attributes(
    Kind.REQUEST,
    lambda m: replaced(m, Attr.PRIORITY, b"\x6e\0\0\1"),
    "8445-7.1.1-priority-of-a-check",
    "6544-4.2-checks-over-tcp-rank-below-udp",
)
attributes(
    Kind.REQUEST,
    lambda m: [each for each in plain(m) if each[0] != Attr.USE_CANDIDATE],
    "8445-7.1.2-the-controlling-agent-nominates",
)
behind(boxes.Aggressive, "8445-7.1.2-the-controlled-agent-does-not")
attributes(Kind.REQUEST, lambda m: replaced(m, Attr.USE_CANDIDATE, bytes(4)), "8445-16.1-use-candidate-is-empty")
attributes(
    Kind.REQUEST,
    _other_role,
    "8445-7.1.3-the-controlling-agent-says-so",
    "8445-7.1.3-the-controlled-agent-says-so",
    "8445-6.1.1-the-full-agent-controls-a-lite-one",
    "8445-9-roles-survive-a-restart",
)
attributes(Kind.REQUEST, lambda m: _tie_breaker(m, secrets.token_bytes(8)), "8445-16.1-one-tie-breaker")
attributes(
    Kind.REQUEST,
    lambda m: replaced(m, Attr.USERNAME, b"old:old"),
    "8445-7.2.2-username-of-a-check",
    "8445-9-a-restart-checks-anew",
    "6544-9.2-a-restart-reuses-the-connection",
    "7675-5.1-the-same-credentials",
)


def _own_password(box: Middlebox, message: Message) -> Draft:
    draft = Draft(message.kind, message.transaction_id)
    for type_, value in plain(message):
        draft.add(type_, value)
    return draft.integrity(box.trial.told.pwd).fingerprint()


sends(Kind.REQUEST, _own_password, "8445-7.2.2-password-of-a-check")
attributes(Kind.REQUEST, lambda m: more(m, Attr.REALM, b"example.org"), "8445-7.2.2-short-term-credentials")
sends(
    Kind.REQUEST,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-8]),
    "8445-7.2.4-fingerprint-of-a-check",
)

# Answers to checks (RFC 8445 s7.2.5)

behind(
    boxes.Deaf,
    "8445-7.2.5.1-a-487-makes-it-controlling",
    "8445-7.2.5.1-a-487-makes-it-controlled",
    "8445-7.2.5.1-a-487-is-followed-by-a-check",
    "8445-7.2.5.3.1-a-mapped-address-that-nobody-knows",
    "8445-7.3.1.5-a-valid-pair-is-nominated-at-once",
)
attributes(Kind.REQUEST, lambda m: _tie_breaker(m, bytes(8)), "8445-7.2.5.1-a-487-changes-the-tie-breaker")
within(
    wrapping(Boasts),
    "8445-7.2.5.2.1-an-answer-from-elsewhere",
    "8445-7.3.1.5-nomination-waits-for-the-agents-own-check",
)
behind(Middlebox, "8445-7.2.5.2.3-silence-is-failure")
within(
    wrapping(SelectsHosts),
    "8445-7.2.5.3.2-the-valid-pair-has-the-mapped-address",
    "8445-7.3.1.3-priority-of-an-unknown-source",
)

# The peer's checks (RFC 8445 s7.3)

behind(
    boxes.Shy,
    "8445-7.3-an-answer-before-the-peer-is-known",
    "8445-7.3-early-checks-are-not-forgotten",
    "8445-7.3.1.3-an-unknown-source-is-a-candidate",
    "6544-7.2-passive-accepts-before-the-peer-is-known",
)
behind(boxes.IgnoresChecks, "8445-7.3-each-candidate-answers")
refuses(
    lambda m: (m.username or "").endswith(":another"),
    "8445-7.3-the-first-part-of-the-username-counts",
)
sends(
    Kind.SUCCESS,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-32]).integrity("wrong").fingerprint(),
    "8445-7.3-answers-are-protected",
)
sends(
    Kind.SUCCESS,
    lambda _, m: Draft(m.kind, m.transaction_id).raw(m.data[20:-8]),
    "8445-7.3-answers-have-a-fingerprint",
)
behind(boxes.Wanders, "8445-7.3-no-alternate-server")
attributes(
    Kind.SUCCESS,
    lambda m: more(m, Attr.MAPPED_ADDRESS, xor_address(("127.0.0.1", 9), bytes(12))),
    "8445-7.3-no-mapped-address-for-rfc3489",
)
behind(
    boxes.Agrees,
    "8445-7.3.1.1-controlling-and-larger",
    "8445-7.3.1.1-controlling-and-smaller",
    "8445-7.3.1.1-controlled-and-larger",
    "8445-7.3.1.1-controlled-and-smaller",
)
behind(boxes.Quarrels, "8445-7.3.1.1-no-conflict")
behind(boxes.AsksOnce, "8445-7.3.1.4-a-pair-in-progress-is-checked-anew", "8445-7.3.1.4-a-failed-pair-is-checked-again")
behind(boxes.Nags, "8445-7.3.1.4-the-old-check-is-cancelled")
behind(boxes.Forgets, "8445-7.3.1.4-the-old-check-may-be-answered")
behind(
    boxes.Overeager,
    "8445-7.3.1.4-a-pair-that-succeeded-is-not-checked-again",
    "8445-7-a-lite-agent-does-not-check",
    "8445-8.1.1-no-second-nomination",
)

# Which pairs, in which order, how fast (RFC 8445 s6.1, s14)

behind(boxes.Elsewhere, "8445-6.1.2.2-pairs-are-of-one-component")
behind(
    boxes.Backwards,
    "8445-6.1.2.3-checks-go-by-priority",
    "8445-6.1.2.6-one-pair-of-a-foundation-first",
    "8445-6.1.4.2-triggered-checks-go-first",
    "8445-6.1.4.1-triggered-checks-keep-their-order",
)
behind(boxes.Insists, "8445-6.1.2.4-redundant-pairs-are-pruned")
within(
    adding("limits: {pairs: 200, remote_candidates: 200}"),
    "8445-6.1.2.5-the-list-has-a-limit",
)
behind(boxes.AsksOnePort, "8445-7.2.5.3.3-success-thaws-the-foundation")
within(adding("pacing: {ta: 0.005}"), "8445-14.2-checks-are-50-ms-apart")
within(wrapping(IgnoresPacing), "8445-14.2-the-slower-pace-is-kept")
behind(
    boxes.Hasty,
    "8445-14.2-never-faster-than-5-ms",
    "8445-14.3-the-first-retransmission-takes-500-ms",
    "6544-4.1-connections-are-paced",
    "7675-5.1-intervals-are-4-seconds-or-more",
)
