"""What the agent's own STUN messages look like (RFC 8489 s5, s6.1, s14)."""

from __future__ import annotations

from itertools import combinations

from interop.conformance import stun
from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK, ERROR, SUCCESS, answer_to
from interop.conformance.stun import Attr, Draft, Kind, Message
from interop.conformance.target import Capability
from interop.conformance.trial import UDP, Trial
from interop.conformance.wire import Matcher, Packet

MUST, SHOULD = Level.MUST, Level.SHOULD

_HEADER_ROOM = 548
"""Bytes that a STUN message over IPv4 may have where the path MTU is unknown (RFC 8489 s6.1)."""


async def _spoken(trial: Trial) -> list[Packet]:
    """What the agent says before there is data: checks, a success, and an error if it sends one."""
    port = await trial.meet()
    await trial.check_on(port)
    port.send(Draft(Kind.REQUEST).fingerprint())
    await trial.succeeds(port)
    return port.inbox


async def _messages(trial: Trial) -> list[Message]:
    messages = [packet.message for packet in await _spoken(trial) if packet.message is not None]
    require({message.kind for message in messages} >= {Kind.REQUEST, Kind.SUCCESS}, "no request and success came")
    return messages


async def _refusal(trial: Trial) -> Message:
    """An error response, to a request without any attribute but FINGERPRINT."""
    port = await trial.meet()
    refusal = await trial.ask(port, Draft(Kind.REQUEST).fingerprint())
    require(refusal.kind is Kind.ERROR, "the request was not refused")
    return refusal


@case(8489, "5", MUST, "The most significant 2 bits of every STUN message MUST be zeroes.")
async def first_bits_are_zero(trial: Trial) -> None:
    """Every message begins with two zero bits."""
    for packet in await _spoken(trial):
        require(packet.data[:1] < b"\x40", f"a message begins with 0x{packet.data[:1].hex()}")


@case(8489, "5", MUST, "The Magic Cookie field MUST contain the fixed value 0x2112A442 in network byte order.")
async def magic_cookie(trial: Trial) -> None:
    """Every message has the magic cookie."""
    for packet in await _spoken(trial):
        require(packet.data[4:8] == stun.COOKIE, f"the magic cookie is 0x{packet.data[4:8].hex()}")


@case(
    8489,
    "5",
    MUST,
    "The message length MUST contain the size of the message in bytes, not including the 20-byte STUN header. Since "
    "all STUN attributes are padded to a multiple of 4 bytes, the last 2 bits of this field are always zero.",
)
async def message_length(trial: Trial) -> None:
    """The length is that of what follows the header, and a multiple of 4."""
    for packet in await _spoken(trial):
        said = int.from_bytes(packet.data[2:4], "big")
        require(said == len(packet.data) - 20, f"the length says {said} where {len(packet.data) - 20} bytes follow")
        require(said % 4 == 0, f"the length is {said}")


@case(
    8489,
    "5",
    MUST,
    "For example, a Binding request has class=0b00 (request) and method=0b000000000001 (Binding) and is encoded into "
    "the first 16 bits as 0x0001. A Binding response has class=0b10 (success response) and method=0b000000000001 and "
    "is encoded into the first 16 bits as 0x0101.",
)
async def message_types(trial: Trial) -> None:
    """Checks have type 0x0001, successes 0x0101."""
    port = await trial.meet()
    request = await port.expect(Matcher("packet", lambda _: True))
    require(request.data[:2] == b"\x00\x01", f"a check has type 0x{request.data[:2].hex()}")
    asked = trial.peer.request()
    port.send(asked)
    answer = await port.expect(Matcher("answer", lambda packet: packet.data[8:20] == asked.transaction_id))
    require(answer.data[:2] == b"\x01\x01", f"a success has type 0x{answer.data[:2].hex()}")


@case(
    8489,
    "5",
    MUST,
    "As such, the transaction ID MUST be uniformly and randomly chosen from the interval 0 .. 2**96-1 and MUST be "
    "cryptographically random.",
)
async def transaction_ids_look_random(trial: Trial) -> str:
    """Any two of the transaction ids of eight checks differ in about half of their bits."""
    await trial.create(UDP)
    ports = [trial.udp() for _ in range(8)]
    await trial.introduce(
        *(trial.peer.candidate(port, priority=1000 + n, foundation=str(n)) for n, port in enumerate(ports))
    )
    checks = [(await trial.check_on(port)).message for port in ports]
    ids = [int.from_bytes(check.transaction_id, "big") for check in checks if check is not None]
    distances = [(one ^ other).bit_count() for one, other in combinations(ids, 2)]
    require(min(distances) >= 16, f"two of them differ in {min(distances)} of 96 bits only")
    return f"they differ in {min(distances)} to {max(distances)} of 96 bits"


@case(8489, "5", MUST, "Resends of the same request reuse the same transaction ID")
async def retransmission_keeps_the_id(trial: Trial) -> None:
    """A retransmission is the same request, to the bit."""
    port = await trial.meet(polite=False)
    first = await trial.check_on(port)
    again = await trial.check_on(port)
    require(again.data == first.data, "the second request is not the first one")


@case(
    8489,
    "5",
    MUST,
    "the client MUST choose a new transaction ID for new transactions unless the new request is bit-wise identical to "
    "the previous request and sent from the same transport address to the same IP address.",
)
async def new_request_new_id(trial: Trial) -> None:
    """After a role conflict the check, which now says something else, has another transaction id."""
    port = await trial.meet(polite=False)
    check = await trial.check_on(port)
    port.send(trial.peer.error(check, 487))
    again = await port.expect(Matcher("request that differs", lambda p: CHECK.matches(p) and p.data != check.data))
    require(again.data[8:20] != check.data[8:20], "it has the id of the check before")


@case(8489, "5", MUST, "Success and error responses MUST carry the same transaction ID as their corresponding request.")
async def responses_carry_the_id(trial: Trial) -> None:
    """What comes back for a request has its transaction id."""
    port = await trial.meet()
    await trial.check_on(port)
    known = set()
    for request in (trial.peer.request(), trial.peer.request()):
        known.add(request.transaction_id)
        port.send(request)
        await port.expect(answer_to(request))
    strange = [packet for packet in port.received(SUCCESS) if packet.data[8:20] not in known]
    require(not strange, f"a success has the id {strange[0].data[8:20].hex() if strange else ''}")


@case(
    8489,
    "6.1",
    MUST,
    'the message class MUST be either "Request" or "Indication" (as appropriate), and the method must be either '
    "Binding or some method defined in another document.",
)
async def first_message_is_a_binding_request(trial: Trial) -> None:
    """What the agent begins with is a Binding request."""
    port = await trial.meet()
    first = await port.expect(Matcher("packet", lambda _: True))
    message = first.message
    require(message is not None, f"it is no STUN: {first.data[:20].hex()}")
    assert message is not None
    require(message.kind is Kind.REQUEST and message.method == stun.BINDING, f"it is {message.kind.name}")


@case(8489, "6.1", SHOULD, "If the agent is sending a request, it SHOULD add a SOFTWARE attribute to the request.")
async def software_in_requests(trial: Trial) -> None:
    """A check has SOFTWARE."""
    port = await trial.meet()
    require(_has(await trial.check_on(port), Attr.SOFTWARE), "the check has no SOFTWARE")


@case(
    8489,
    "6.1",
    SHOULD,
    "If the path MTU is unknown for UDP, messages SHOULD be the smaller of 576 bytes and the first-hop MTU for IPv4 "
    "[RFC1122] and 1280 bytes for IPv6 [RFC8200].",
)
async def messages_are_small(trial: Trial) -> None:
    """No message is longer than fits into 576 bytes of IPv4."""
    for packet in await _spoken(trial):
        require(len(packet.data) < _HEADER_ROOM, f"a message has {len(packet.data)} bytes")


@case(8489, "14", MUST, "Each STUN attribute MUST end on a 32-bit boundary.")
async def attributes_end_on_boundaries(trial: Trial) -> None:
    """Every attribute begins at a multiple of 4 bytes, and the last one ends with the message."""
    trial.peer.ufrag = "fiver"
    for packet in await _spoken(trial):
        require(packet.message is not None, f"attributes and message end apart: {packet.data.hex()}")


@case(8489, "14", MUST, "The padding bits MUST be set to zero on sending and MUST be ignored by the receiver.")
async def padding_is_zero(trial: Trial) -> None:
    """Padding is zero, whatever the length of USERNAME."""
    await trial.create(UDP)
    # Three bytes of padding, whatever the length of the agent's own fragment.
    trial.peer.ufrag = "f" * (8 - len(trial.told.ufrag) % 4)
    port = trial.udp()
    await trial.introduce(trial.peer.candidate(port))
    message = (await trial.check_on(port)).message
    assert message is not None
    padded = [attribute for attribute in message.attributes if attribute.padding]
    for attribute in padded:
        require(
            not any(attribute.padding), f"attribute 0x{attribute.type:04x} is padded with {attribute.padding.hex()}"
        )


@case(
    8489,
    "14",
    MUST,
    "The value in the Length field MUST contain the length of the Value part of the attribute, prior to padding, "
    "measured in bytes.",
)
async def attribute_length_is_without_padding(trial: Trial) -> None:
    """The length of USERNAME is that of the two fragments and the colon."""
    trial.peer.ufrag = "sevens7"
    port = await trial.meet(polite=False)
    message = (await trial.check_on(port)).message
    assert message is not None
    value, said = message.get(Attr.USERNAME), f"{trial.peer.ufrag}:{trial.told.ufrag}".encode()
    require(value == said, f"USERNAME is {value!r}, not {said!r}")


@case(
    8489,
    "14.2",
    MUST,
    "X-Port is computed by XOR'ing the mapped port with the most significant 16 bits of the magic cookie. If the IP "
    "address family is IPv4, X-Address is computed by XOR'ing the mapped IP address with the magic cookie.",
)
async def mapped_address_ipv4(trial: Trial) -> None:
    """XOR-MAPPED-ADDRESS is the address that the request came from."""
    port = await trial.meet()
    mapped = (await trial.succeeds(port)).mapped
    require(mapped == port.near, f"it is {mapped}, and the request came from {port.near}")


@case(
    8489,
    "14.2",
    MUST,
    "If the IP address family is IPv6, X-Address is computed by XOR'ing the mapped IP address with the concatenation "
    "of the magic cookie and the 96-bit transaction ID.",
    needs=(Capability.UDP, Capability.IPV6),
)
async def mapped_address_ipv6(trial: Trial) -> None:
    """The same over IPv6."""
    await trial.create(UDP, host="::1")
    port = trial.udp()
    trial.peer.answers(port)
    await trial.introduce(trial.peer.candidate(port))
    mapped = (await trial.succeeds(port)).mapped
    require(mapped == port.near, f"it is {mapped}, and the request came from {port.near}")


@case(8489, "14.1", MUST, "The first 8 bits of the MAPPED-ADDRESS MUST be set to 0 and MUST be ignored by receivers.")
async def mapped_address_begins_with_zero(trial: Trial) -> None:
    """The first byte of XOR-MAPPED-ADDRESS, which has the rules of MAPPED-ADDRESS, is 0; its family is 1 for IPv4."""
    port = await trial.meet()
    value = (await trial.succeeds(port)).get(Attr.XOR_MAPPED_ADDRESS)
    require(value is not None and len(value) == 8 and value[:2] == b"\0\1", f"its value is {value and value.hex()}")


@case(
    8489,
    "14.3",
    MUST,
    "It MUST contain a UTF-8-encoded [RFC3629] sequence of fewer than 509 bytes and MUST have been processed using "
    "the OpaqueString profile [RFC8265].",
)
async def username_is_short_text(trial: Trial) -> None:
    """USERNAME is UTF-8 and shorter than 509 bytes, with the longest fragment that a peer may have."""
    trial.peer.ufrag = "u" * 256
    port = await trial.meet(polite=False)
    message = (await trial.check_on(port)).message
    assert message is not None
    value = message.get(Attr.USERNAME) or b""
    require(0 < len(value) < 509, f"USERNAME has {len(value)} bytes")
    require(value.isascii(), f"USERNAME is {value!r}, and both fragments are ice-chars")


@case(
    8489,
    "14.5",
    MUST,
    "The Length field of the STUN message header is adjusted to point to the end of the MESSAGE-INTEGRITY attribute.",
)
async def integrity_of_responses(trial: Trial) -> None:
    """MESSAGE-INTEGRITY of a response is HMAC-SHA1 with the length as if it were the last attribute."""
    port = await trial.meet()
    answer = await trial.succeeds(port)
    require(answer.has(Attr.MESSAGE_INTEGRITY), "the response has no MESSAGE-INTEGRITY")
    require(answer.integrity_holds(trial.told.pwd), "MESSAGE-INTEGRITY is wrong")


@case(
    8489,
    "14.5",
    MUST,
    "The text used as input to HMAC is the STUN message, up to and including the attribute preceding the "
    "MESSAGE-INTEGRITY attribute.",
)
async def integrity_of_requests(trial: Trial) -> None:
    """MESSAGE-INTEGRITY of a check is HMAC-SHA1 of what stands before it."""
    port = await trial.meet(polite=False)
    message = (await trial.check_on(port)).message
    assert message is not None
    require(message.integrity_holds(trial.peer.pwd), "MESSAGE-INTEGRITY is missing or wrong")


@case(
    8489,
    "14.7",
    MUST,
    "When present, the FINGERPRINT attribute MUST be the last attribute in the message and thus will appear after "
    "MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256.",
)
async def fingerprint_is_last(trial: Trial) -> None:
    """FINGERPRINT is the last attribute of every message that has it."""
    for message in await _messages(trial):
        types = [attribute.type for attribute in message.attributes]
        if Attr.FINGERPRINT in types:
            require(types.index(Attr.FINGERPRINT) == len(types) - 1, f"{message.kind.name} goes on after FINGERPRINT")


@case(
    8489,
    "14.7",
    MUST,
    "The value of the attribute is computed as the CRC-32 of the STUN message up to (but excluding) the FINGERPRINT "
    "attribute itself, XOR'ed with the 32-bit value 0x5354554e.",
)
async def fingerprint_is_right(trial: Trial) -> None:
    """The value of FINGERPRINT is right wherever there is one."""
    for message in await _messages(trial):
        if message.has(Attr.FINGERPRINT):
            require(message.fingerprint_holds, f"FINGERPRINT of a {message.kind.name} is wrong")


@case(
    8489,
    "7",
    MUST,
    "When the FINGERPRINT extension is used, an agent includes the FINGERPRINT attribute in messages it sends to "
    "another agent.",
)
async def fingerprint_everywhere(trial: Trial) -> None:
    """Requests, successes and errors have FINGERPRINT."""
    for message in await _messages(trial):
        require(message.has(Attr.FINGERPRINT), f"a {message.kind.name} has no FINGERPRINT")


@case(
    8489,
    "14.8",
    MUST,
    "The value MUST be between 3 and 6. The Number represents the binary encoding of the error code modulo 100, and "
    "its value MUST be between 0 and 99.",
)
async def error_code_class_and_number(trial: Trial) -> None:
    """ERROR-CODE has its hundreds in one field and the rest in another."""
    value = (await _refusal(trial)).get(Attr.ERROR_CODE)
    require(value is not None and len(value) >= 4, "there is no ERROR-CODE")
    assert value is not None
    require(3 <= value[2] & 7 <= 6 and value[3] <= 99, f"class {value[2] & 7} and number {value[3]}")


@case(8489, "14.8", SHOULD, "The Reserved bits SHOULD be 0 and are for alignment on 32-bit boundaries.")
async def error_code_reserved_bits(trial: Trial) -> None:
    """The 21 reserved bits of ERROR-CODE are zero."""
    value = (await _refusal(trial)).get(Attr.ERROR_CODE) or b"\xff\xff\xff"
    require(value[:2] == b"\0\0" and value[2] < 8, f"ERROR-CODE begins with {value[:3].hex()}")


@case(
    8489,
    "14.8",
    MUST,
    "The reason phrase MUST be a UTF-8-encoded [RFC3629] sequence of fewer than 128 characters",
)
async def reason_phrase(trial: Trial) -> str:
    """The reason is UTF-8 and shorter than 128 characters."""
    value = (await _refusal(trial)).get(Attr.ERROR_CODE) or b""
    try:
        reason = value[4:].decode()
    except UnicodeDecodeError:
        reason = "\ufffd" * 128
    require(len(reason) < 128, f"the reason is {value[4:]!r}")
    return reason


@case(8489, "6.3.1.1", SHOULD, "In addition, the server SHOULD add a SOFTWARE attribute to the message.")
async def software_in_responses(trial: Trial) -> None:
    """A response has SOFTWARE."""
    port = await trial.meet()
    require((await trial.succeeds(port)).has(Attr.SOFTWARE), "the success has no SOFTWARE")


@case(
    8489,
    "6.3.1.1",
    MUST,
    "For an error response, the server MUST add an ERROR-CODE attribute containing the error code specified in the "
    "processing above.",
)
async def errors_have_a_code(trial: Trial) -> None:
    """Whatever error responses come have ERROR-CODE."""
    port = await trial.meet()
    await trial.ask(port, Draft(Kind.REQUEST).fingerprint())
    errors = port.received(ERROR)
    require(errors and all(_has(packet, Attr.ERROR_CODE) for packet in errors), "an error has no ERROR-CODE")


def _has(packet: Packet, attribute: Attr) -> bool:
    return packet.message is not None and packet.message.has(attribute)
