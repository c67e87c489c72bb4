"""How the agent treats requests and whatever else comes to it (RFC 8489 s6.3, s9.1.3)."""

from __future__ import annotations

import struct

from interop.conformance import stun
from interop.conformance.case import Level, NotConforming, case, require
from interop.conformance.peer import SUCCESS, answer_to
from interop.conformance.stun import UNKNOWN_OPTIONAL, UNKNOWN_REQUIRED, Attr, Draft, Kind
from interop.conformance.trial import Trial
from interop.conformance.wire import Channel

MUST, SHOULD = Level.MUST, Level.SHOULD

_DISCARDED = "If any errors are detected, the message is silently discarded."
_WRONG_PASSWORD = "thisIsNotThePasswordAtAll"


async def _refused(trial: Trial, request: Draft, code: int) -> None:
    """The agent refuses a request with this code, and still grants a right one."""
    port = await trial.meet()
    answer = await trial.ask(port, request)
    require(answer.kind is Kind.ERROR, f"it was granted, not refused with {code}")
    require(answer.error == code, f"it was refused with {answer.error}, not {code}")
    await trial.succeeds(port)


async def _ready(trial: Trial) -> Channel:
    """A UDP port whose first right request was granted: what follows is about other requests."""
    port = await trial.meet()
    await trial.succeeds(port)
    return port


# Messages that are none


@case(8489, "6.3", MUST, _DISCARDED)
async def wrong_magic_cookie(trial: Trial) -> None:
    """A request with another magic cookie gets no answer."""
    port = await _ready(trial)
    request = trial.peer.request()
    await trial.ignores(port, request.encode(cookie=b"\x21\x12\xa4\x43"))


@case(8489, "6.3", MUST, _DISCARDED)
async def first_bits_set(trial: Trial) -> None:
    """A request whose first two bits are not zero gets no answer."""
    port = await _ready(trial)
    await trial.ignores(port, trial.peer.request().encode(type_=0x8001))


@case(8489, "6.3", MUST, _DISCARDED)
async def length_too_long(trial: Trial) -> None:
    """A request whose length promises more than there is gets no answer."""
    port = await _ready(trial)
    request = trial.peer.request()
    await trial.ignores(port, request.encode(length=len(bytes(request)) - 20 + 4))


@case(8489, "6.3", MUST, _DISCARDED)
async def length_too_short(trial: Trial) -> None:
    """A request with bytes behind its end gets no answer."""
    port = await _ready(trial)
    request = trial.peer.request()
    await trial.ignores(port, bytes(request) + bytes(4))


@case(8489, "6.3", MUST, _DISCARDED)
async def length_not_of_words(trial: Trial) -> None:
    """A request whose length is no multiple of 4 gets no answer."""
    port = await _ready(trial)
    request = trial.peer.draft().raw(b"\x80\x22\x00")
    await trial.ignores(port, request)


@case(8489, "6.3", MUST, _DISCARDED)
async def attribute_beyond_the_end(trial: Trial) -> None:
    """A request whose last attribute is longer than the message gets no success."""
    port = await _ready(trial)
    request = trial.peer.draft().integrity(trial.told.pwd).raw(struct.pack("!HH", UNKNOWN_OPTIONAL, 400) + b"1234")
    port.send(request)
    await trial.succeeds(port)
    granted = [packet for packet in port.received(SUCCESS) if packet.data[8:20] == request.transaction_id]
    require(not granted, "it was granted")


@case(8489, "6.3", MUST, _DISCARDED)
async def unsupported_method(trial: Trial) -> None:
    """A request of a method that is not Binding gets no success."""
    port = await _ready(trial)
    request = Draft(Kind.REQUEST, method=0x0F3).add(Attr.USERNAME, trial.peer.draft().transaction_id.hex().encode())
    request = request.integrity(trial.told.pwd).fingerprint()
    await trial.ignores(port, request)


@case(8489, "6.3", MUST, _DISCARDED)
async def response_out_of_the_blue(trial: Trial) -> None:
    """A success response that nobody asked for changes nothing."""
    port = await _ready(trial)
    blue = Draft(Kind.SUCCESS)
    blue.add(Attr.XOR_MAPPED_ADDRESS, stun.xor_address(port.near, blue.transaction_id))
    await trial.ignores(port, trial.peer.sealed(blue))


@case(
    8489,
    "6.3",
    MUST,
    "If the FINGERPRINT extension is being used, the agent checks that the FINGERPRINT attribute is present and "
    "contains the correct value.",
)
async def fingerprint_wrong(trial: Trial) -> None:
    """A request with a wrong FINGERPRINT gets no answer."""
    port = await _ready(trial)
    await trial.ignores(port, trial.peer.draft().integrity(trial.told.pwd).fingerprint(spoiled=True))


@case(
    8489,
    "7",
    MUST,
    "When the agent receives what it believes is a STUN message, then, in addition to other basic checks, the agent "
    "also checks that the message contains a FINGERPRINT attribute and that the attribute contains the correct value.",
)
async def fingerprint_missing(trial: Trial) -> None:
    """A request without FINGERPRINT gets no answer."""
    port = await _ready(trial)
    await trial.ignores(port, trial.peer.draft().integrity(trial.told.pwd))


# Attributes


@case(8489, "6.3", MUST, "Unknown comprehension-optional attributes MUST be ignored by the agent.")
async def unknown_optional_attribute(trial: Trial) -> None:
    """An unknown attribute from 0x8000 on does no harm."""
    port = await trial.meet()
    await trial.succeeds(port, trial.peer.sealed(trial.peer.draft().add(UNKNOWN_OPTIONAL, b"whatever")))


@case(8489, "6.3", SHOULD, "Known-but-unexpected attributes SHOULD be ignored by the agent.")
async def unexpected_attribute(trial: Trial) -> None:
    """A mapped address in a request does no harm."""
    port = await trial.meet()
    request = trial.peer.draft()
    request.add(Attr.XOR_MAPPED_ADDRESS, stun.xor_address(("192.0.2.1", 4711), request.transaction_id))
    await trial.succeeds(port, trial.peer.sealed(request))


@case(
    8489,
    "6.3.1",
    MUST,
    "If the request contains one or more unknown comprehension-required attributes, the server replies with an error "
    "response with an error code of 420 (Unknown Attribute)",
)
async def unknown_required_attribute(trial: Trial) -> None:
    """An unknown attribute below 0x8000 is refused with 420."""
    port = await trial.meet()
    answer = await trial.ask(port, trial.peer.sealed(trial.peer.draft().add(UNKNOWN_REQUIRED, b"what")))
    require(answer.error == 420, f"the answer is {answer.error or 'a success'}")


@case(
    8489,
    "14.8",
    MUST,
    "The server MUST put this unknown attribute in the UNKNOWN-ATTRIBUTE attribute of its error response.",
)
async def unknown_attributes_are_listed(trial: Trial) -> None:
    """The 420 lists what was not understood, and nothing else."""
    port = await trial.meet()
    request = trial.peer.draft().add(UNKNOWN_REQUIRED, b"what").add(UNKNOWN_REQUIRED + 1).add(UNKNOWN_OPTIONAL)
    value = (await trial.ask(port, trial.peer.sealed(request))).get(Attr.UNKNOWN_ATTRIBUTES)
    require(value is not None and len(value) % 2 == 0, "there is no UNKNOWN-ATTRIBUTES")
    assert value is not None
    listed = {*struct.unpack(f"!{len(value) // 2}H", value)}
    require(listed == {UNKNOWN_REQUIRED, UNKNOWN_REQUIRED + 1}, f"it lists {[hex(each) for each in listed]}")


@case(
    8489,
    "6.3.1.1",
    SHOULD,
    "If the server authenticated the request using an authentication mechanism, then the server SHOULD add the "
    "appropriate authentication attributes to the response (see Section 9).",
)
async def refusal_is_authenticated(trial: Trial) -> None:
    """A 420 to an authenticated request has MESSAGE-INTEGRITY."""
    port = await trial.meet()
    answer = await trial.ask(port, trial.peer.sealed(trial.peer.draft().add(UNKNOWN_REQUIRED, b"what")))
    require(answer.kind is Kind.ERROR, "it was granted")
    require(answer.integrity_holds(trial.told.pwd), "MESSAGE-INTEGRITY is missing or wrong")


@case(
    8489,
    "14",
    MUST,
    "The padding bits MUST be set to zero on sending and MUST be ignored by the receiver.",
)
async def padding_is_ignored(trial: Trial) -> None:
    """Padding that is not zero does no harm."""
    port = await trial.meet()
    await trial.succeeds(port, trial.peer.sealed(trial.peer.draft().add(UNKNOWN_OPTIONAL, b"odd", padding=b"\xff")))


@case(
    8489,
    "14",
    MUST,
    "Unless specified otherwise, the order of appearance is significant: only the first occurrence needs to be "
    "processed by a receiver",
)
async def first_of_duplicates_counts(trial: Trial) -> None:
    """Of two USERNAMEs the first one counts."""
    port = await trial.meet()
    twice = trial.peer.draft().add(Attr.USERNAME, b"nobody:knows")
    await trial.succeeds(port, trial.peer.sealed(twice))


# Answers


@case(
    8489,
    "6.3.1",
    MUST,
    "The server MUST respond to retransmissions such that the following property is preserved: if the client receives "
    "the response to the retransmission and not the response that was sent to the original request, the overall state "
    "on the client and server is identical",
)
async def retransmission_is_answered_alike(trial: Trial) -> None:
    """A request that comes twice gets the same answer twice."""
    port = await trial.meet()
    request = trial.peer.request()
    first = await trial.succeeds(port, request)
    second = await trial.succeeds(port, request)
    require((first.kind, first.mapped) == (second.kind, second.mapped), f"{first.mapped} and then {second.mapped}")


@case(
    8489,
    "6.3.1.1",
    MUST,
    "When forming the success response, the server adds an XOR-MAPPED-ADDRESS attribute to the response; this "
    "attribute contains the source transport address of the request message.",
)
async def each_source_is_told_its_own_address(trial: Trial) -> None:
    """Two sources of requests are told two addresses."""
    port = await trial.meet()
    other = trial.udp()
    for each in (port, other):
        mapped = (await trial.succeeds(each)).mapped
        require(mapped == each.near, f"{each.near} was told {mapped}")


@case(
    8489,
    "6.3.1.2",
    MUST,
    "the destination IP address and port of the response are the source IP address and port of the received request "
    "message, and the source IP address and port of the response are equal to the destination IP address and port of "
    "the received request message.",
)
async def answers_come_from_where_the_request_went(trial: Trial) -> None:
    """The response comes from the candidate that was asked."""
    port = await trial.meet()
    request = trial.peer.request()
    port.send(request)
    answer = await port.expect(answer_to(request))
    require(answer.far == port.far, f"it comes from {answer.far}, and {port.far} was asked")


@case(8489, "6.3.2", MUST, "No response is generated for an indication.")
async def indications_get_no_answer(trial: Trial) -> None:
    """A Binding indication gets no answer, and does no harm."""
    port = await _ready(trial)
    await trial.ignores(port, Draft(Kind.INDICATION).fingerprint())


@case(
    8489,
    "9.1.3",
    MUST,
    "If the message is an indication, the agent MUST silently discard the indication.",
)
async def bad_indications_get_no_answer(trial: Trial) -> None:
    """A Binding indication with credentials that are wrong gets no answer either."""
    port = await _ready(trial)
    indication = Draft(Kind.INDICATION).add(Attr.USERNAME, b"nobody:knows").integrity(_WRONG_PASSWORD).fingerprint()
    await trial.ignores(port, indication)


# Authentication

_REJECT_400 = (
    "If the message is a request, the server MUST reject the request with an error response. This response MUST use an "
    "error code of 400 (Bad Request)."
)
_REJECT_401 = (
    "If the message is a request, the server MUST reject the request with an error response. This response MUST use an "
    "error code of 401 (Unauthenticated)."
)


@case(8489, "9.1.3", MUST, _REJECT_400)
async def neither_username_nor_integrity(trial: Trial) -> None:
    """A request without USERNAME and MESSAGE-INTEGRITY is refused with 400."""
    await _refused(trial, Draft(Kind.REQUEST).add(Attr.PRIORITY, bytes(4)).fingerprint(), 400)


@case(8489, "9.1.3", MUST, _REJECT_400)
async def no_integrity(trial: Trial) -> None:
    """A request without MESSAGE-INTEGRITY is refused with 400."""
    port = await trial.meet()
    answer = await trial.ask(port, trial.peer.draft().fingerprint())
    require(answer.error == 400, f"the answer is {answer.error or 'a success'}")


@case(8489, "9.1.3", MUST, _REJECT_400)
async def no_username(trial: Trial) -> None:
    """A request without USERNAME is refused with 400."""
    port = await trial.meet()
    request = Draft(Kind.REQUEST).add(Attr.PRIORITY, b"\x6e\x7f\xff\xff").add(Attr.ICE_CONTROLLING, bytes(8))
    answer = await trial.ask(port, request.integrity(trial.told.pwd).fingerprint())
    require(answer.error == 400, f"the answer is {answer.error or 'a success'}")


@case(8489, "9.1.3", MUST, _REJECT_401)
async def unknown_username(trial: Trial) -> None:
    """A request with a USERNAME of somebody else is refused with 401."""
    port = await trial.meet()
    request = trial.peer.draft(username=f"nobody:{trial.peer.ufrag}").integrity(trial.told.pwd).fingerprint()
    answer = await trial.ask(port, request)
    require(answer.error == 401, f"the answer is {answer.error or 'a success'}")


@case(8489, "9.1.3", MUST, _REJECT_401)
async def wrong_password(trial: Trial) -> None:
    """A request with another password is refused with 401."""
    port = await trial.meet()
    answer = await trial.ask(port, trial.peer.draft().integrity(_WRONG_PASSWORD).fingerprint())
    require(answer.error == 401, f"the answer is {answer.error or 'a success'}")


@case(8489, "9.1.3", MUST, _REJECT_401)
async def integrity_of_another_message(trial: Trial) -> None:
    """A request that was changed under way, its fingerprint made right again, is refused with 401."""
    port = await trial.meet()
    answer = await trial.ask(port, trial.peer.draft().integrity(trial.told.pwd, spoiled=True).fingerprint())
    require(answer.error == 401, f"the answer is {answer.error or 'a success'}")


@case(
    8489,
    "9.1.3",
    MUST,
    "If any of the checks fail, a server MUST NOT include a MESSAGE-INTEGRITY-SHA256, MESSAGE-INTEGRITY, or USERNAME "
    "attribute in the error response.",
)
async def refusals_are_not_signed(trial: Trial) -> None:
    """400 and 401 have neither USERNAME nor integrity."""
    port = await trial.meet()
    for request in (
        trial.peer.draft().fingerprint(),
        trial.peer.draft().integrity(_WRONG_PASSWORD).fingerprint(),
    ):
        answer = await trial.ask(port, request)
        require(answer.error in (400, 401), f"the answer is {answer.error or 'a success'}")
        for attribute in (Attr.USERNAME, Attr.MESSAGE_INTEGRITY, Attr.MESSAGE_INTEGRITY_SHA256):
            require(not answer.has(attribute), f"a {answer.error} has {attribute.name}")


@case(
    8489,
    "9.1.3",
    MUST,
    "Any response generated by a server to a request that contains only a MESSAGE-INTEGRITY attribute MUST include the "
    "MESSAGE-INTEGRITY attribute, computed using the password utilized to authenticate the request.",
)
async def sha1_is_answered_with_sha1(trial: Trial) -> None:
    """The answer to a request with MESSAGE-INTEGRITY has it, too, and not MESSAGE-INTEGRITY-SHA256."""
    port = await trial.meet()
    answer = await trial.succeeds(port)
    require(answer.integrity_holds(trial.told.pwd), "MESSAGE-INTEGRITY is missing or wrong")
    require(not answer.has(Attr.MESSAGE_INTEGRITY_SHA256), "there is MESSAGE-INTEGRITY-SHA256")


@case(
    8489,
    "9.1.3",
    MUST,
    "Any response generated by a server to a request that contains a MESSAGE-INTEGRITY-SHA256 attribute MUST include "
    "the MESSAGE-INTEGRITY-SHA256 attribute, computed using the password utilized to authenticate the request.",
)
async def sha256_is_answered_with_sha256(trial: Trial) -> None:
    """A request with MESSAGE-INTEGRITY-SHA256 alone is granted, and the answer has it."""
    port = await trial.meet()
    answer = await trial.succeeds(port, trial.peer.draft().integrity_sha256(trial.told.pwd).fingerprint())
    require(answer.sha256_holds(trial.told.pwd), "MESSAGE-INTEGRITY-SHA256 is missing or wrong")


@case(8489, "9.1.3", MUST, "This means that only one of these attributes can appear in a response.")
async def one_integrity_in_a_response(trial: Trial) -> None:
    """The answer to a request with both integrities has MESSAGE-INTEGRITY-SHA256 only."""
    port = await trial.meet()
    request = trial.peer.draft().integrity(trial.told.pwd).integrity_sha256(trial.told.pwd).fingerprint()
    answer = await trial.succeeds(port, request)
    require(not answer.has(Attr.MESSAGE_INTEGRITY), "there is MESSAGE-INTEGRITY")
    require(answer.sha256_holds(trial.told.pwd), "MESSAGE-INTEGRITY-SHA256 is missing or wrong")


@case(
    8489,
    "9.1.3",
    MUST,
    "If the MESSAGE-INTEGRITY-SHA256 attribute is present, compute the value for the message integrity as described in "
    "Section 14.6, using the password associated with the username.",
)
async def the_stronger_integrity_counts(trial: Trial) -> None:
    """A request whose MESSAGE-INTEGRITY is right and whose MESSAGE-INTEGRITY-SHA256 is wrong is refused."""
    port = await trial.meet()
    request = trial.peer.draft().integrity(trial.told.pwd).integrity_sha256(trial.told.pwd, spoiled=True).fingerprint()
    answer = await trial.ask(port, request)
    require(answer.error == 401, f"the answer is {answer.error or 'a success'}")


@case(8489, "9.1.3", MUST, "The response MUST NOT contain the USERNAME attribute.")
async def no_username_in_responses(trial: Trial) -> None:
    """A success has no USERNAME."""
    port = await trial.meet()
    require(not (await trial.succeeds(port)).has(Attr.USERNAME), "it has USERNAME")


@case(
    8489,
    "9",
    MUST,
    "Note that agents MUST ignore all attributes that follow MESSAGE-INTEGRITY, with the exception of the "
    "MESSAGE-INTEGRITY-SHA256 and FINGERPRINT attributes.",
)
async def what_follows_integrity_is_ignored(trial: Trial) -> None:
    """An unknown required attribute after MESSAGE-INTEGRITY does no harm."""
    port = await trial.meet()
    request = trial.peer.draft().integrity(trial.told.pwd).add(UNKNOWN_REQUIRED, b"what").fingerprint()
    answer = await trial.ask(port, request)
    if answer.error is not None:
        raise NotConforming(f"it was refused with {answer.error}")
