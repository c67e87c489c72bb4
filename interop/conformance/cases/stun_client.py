"""How the agent's own transactions go: retransmissions, time-outs, and answers of all kinds (RFC 8489 s6.2, s9.1.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from interop.conformance import stun
from interop.conformance.case import Level, NotConforming, case, require
from interop.conformance.peer import CHECK
from interop.conformance.stun import UNKNOWN_REQUIRED, Attr, Draft, Kind
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, PASSIVE, Trial
from interop.conformance.wire import Channel, Connection, Matcher, Packet, UdpPort

MUST, SHOULD = Level.MUST, Level.SHOULD

_RTO = 0.5
"""Seconds: the smallest RTO, and the one that is recommended (RFC 8489 s6.2.1, RFC 8445 s14.3)."""
_TI = 39.5
"""Seconds that a request over TCP is waited for (RFC 8489 s6.2.2)."""
_WRONG_PASSWORD = "thisIsNotThePasswordAtAll"


async def _first_check(trial: Trial) -> tuple[UdpPort, Packet]:
    """The agent's first check, which nobody has answered."""
    port = await trial.meet(polite=False)
    return port, await trial.check_on(port)


async def _sendings(trial: Trial, channel: Channel, number: int, within: float) -> list[Packet]:
    """So many sendings of one request, the first of which comes at once."""
    first = await trial.check_on(channel)
    sent = [first]
    while len(sent) < number:
        packet = await trial.check_on(channel, within)
        if packet.data[8:20] == first.data[8:20]:
            sent.append(packet)
    return sent


async def _is_over(channel: Channel, check: Packet) -> None:
    """The request is sent no more."""
    await channel.refuse(Matcher("retransmission", lambda packet: _same(packet, check)), 2.5 * _RTO)


async def _is_not_valid(trial: Trial, during: float = 1.0) -> None:
    """What the agent got does not let it connect."""
    await trial.wire.find(lambda: trial.outcome or None, during)
    require(trial.outcome != "connected", "the agent has connected, though no check of its has succeeded")


def _same(one: Packet, other: Packet) -> bool:
    return one.data[8:20] == other.data[8:20]


# Retransmission


@case(
    8489,
    "6.2.1",
    SHOULD,
    'A client SHOULD retransmit a STUN request message starting with an interval of RTO ("Retransmission TimeOut"), '
    "doubling after each retransmission.",
)
async def retransmissions_double(trial: Trial) -> str:
    """The interval between sendings doubles each time."""
    port = await trial.meet(polite=False)
    sent = await _sendings(trial, port, 3, within=4.0)
    gaps = [later.at - earlier.at for earlier, later in pairwise(sent)]
    told = ", ".join(f"{gap:.3f}" for gap in gaps)
    for earlier, later in pairwise(gaps):
        require(1.7 <= later / earlier <= 2.3, f"the intervals are {told} s")
    return f"the intervals are {told} s"


@case(
    8489,
    "6.2.1",
    SHOULD,
    "Retransmissions continue until a response is received or until a total of Rc requests have been sent. Rc SHOULD "
    "be configurable and SHOULD have a default of 7.",
    slow=True,
    limit=80,
)
async def seven_sendings(trial: Trial) -> None:
    """A request that nobody answers is sent seven times, and not an eighth time."""
    port = await trial.meet(polite=False)
    sent = await _sendings(trial, port, 7, within=30.0)
    await trial.pause(40.0)
    again = [packet for packet in port.received(CHECK) if _same(packet, sent[0])]
    require(len(again) == 7, f"it was sent {len(again)} times")


@case(
    8489,
    "6.2.1",
    SHOULD,
    "If, after the last request, a duration equal to Rm times the RTO has passed without a response (providing ample "
    "time to get a response if only this final request actually succeeds), the client SHOULD consider the transaction "
    "to have failed.",
    slow=True,
    limit=80,
)
async def late_answers_count_until_the_end(trial: Trial) -> None:
    """An answer 7 seconds after the seventh sending still counts."""
    port = await trial.meet(polite=False)
    sent = await _sendings(trial, port, 7, within=30.0)
    await trial.pause(14 * _RTO)
    port.send(trial.peer.success(sent[-1]))
    await trial.select(port)


@case(8489, "6.2.1", MUST, "Retransmissions continue until a response is received")
async def an_answer_ends_retransmission(trial: Trial) -> None:
    """A request that was answered is sent no more."""
    port, check = await _first_check(trial)
    port.send(trial.peer.success(check))
    await _is_over(port, check)


@case(
    8489,
    "6.2.2",
    MUST,
    "Reliability of STUN over TCP and TLS-over-TCP is handled by TCP itself, and there are no retransmissions at the "
    "STUN protocol level.",
    needs=(Capability.TCP_ACTIVE,),
)
async def no_retransmission_over_tcp(trial: Trial) -> None:
    """Over TCP a request is sent once, however long the answer takes."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    check = await trial.check_on(connection)
    await trial.pause(5 * _RTO)
    again = [packet for packet in connection.received(CHECK) if _same(packet, check)]
    require(len(again) == 1, f"it was sent {len(again)} times")


@case(
    8489,
    "6.2.2",
    SHOULD,
    "Ti SHOULD be configurable and SHOULD have a default of 39.5 s.",
    needs=(Capability.TCP_ACTIVE,),
    scaled=True,
    limit=60,
)
async def answers_over_tcp_count_until_ti(trial: Trial) -> None:
    """Over TCP an answer counts that comes shortly before Ti ends."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    check = await trial.check_on(connection)
    await trial.pause(trial.seconds(0.8 * _TI))
    connection.send(trial.peer.success(check))
    trial.peer.answers(connection)
    await trial.select(connection)


@case(
    8489,
    "6.2.2",
    MUST,
    "However, for a request/response transaction, if the client has not received a response by Ti seconds after it "
    "sent the request message, it considers the transaction to have timed out.",
    needs=(Capability.TCP_ACTIVE,),
    scaled=True,
    limit=80,
)
async def answers_over_tcp_come_too_late(trial: Trial) -> None:
    """Over TCP an answer after Ti has ended is none."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    check = await trial.check_on(connection)
    await trial.pause(trial.seconds(1.2 * _TI))
    connection.send(trial.peer.success(check))
    await _is_not_valid(trial, 0.5)


@case(
    8489,
    "6.2.2",
    MUST,
    "In addition, if the client is unable to establish the TCP connection, or the TCP connection is reset or fails "
    "before a response is received, any request/response transaction in progress is considered to have failed.",
    needs=(Capability.TCP_ACTIVE,),
)
async def a_reset_ends_the_transaction(trial: Trial) -> None:
    """When the connection is reset before the answer, the agent has not connected."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    await trial.check_on(connection)
    connection.close(reset=True)
    await _is_not_valid(trial)


@case(
    8489,
    "6.2.2",
    SHOULD,
    "At the server end, the server SHOULD keep the connection open and let the client close it, unless the server has "
    "determined that the connection has timed out",
    needs=(Capability.TCP_PASSIVE,),
)
async def the_server_keeps_the_connection(trial: Trial) -> None:
    """A connection on which a request was granted stays open."""
    connection = await trial.meet_tcp(PASSIVE)
    await trial.succeeds(connection)
    require(not await connection.end(1.0), f"it was {connection.ended}")


@case(
    8489,
    "6.2.2",
    MUST,
    "A server MUST NOT ever open a connection back towards the client in order to send a response.",
    needs=(Capability.TCP_PASSIVE,),
)
async def no_connection_back(trial: Trial) -> None:
    """Nothing connects to the port from which the peer has connected, not even after its connection is gone."""
    await trial.create(PASSIVE)
    listener = trial.listen()
    await trial.introduce(trial.peer.candidate((listener.near[0], 9), tcptype="active"))
    connection = await trial.dial(PASSIVE, port=listener.near[1])
    connection.send(trial.peer.request())
    connection.close()
    await listener.refuse()


@case(
    8489,
    "6.3.1.2",
    MUST,
    "If the request was received over TCP or TLS-over-TCP, the response is sent back on the same TCP connection as the "
    "request was received on.",
    needs=(Capability.TCP_PASSIVE,),
)
async def each_connection_gets_its_own_answers(trial: Trial) -> None:
    """Of two connections each gets the answer to its own request, and tells its own address."""
    await trial.create(PASSIVE)
    await trial.introduce(trial.peer.candidate((trial.candidate(PASSIVE).host, 9), tcptype="active"), connect=False)
    for connection in (await trial.dial(), await trial.dial()):
        mapped = (await trial.succeeds(connection)).mapped
        require(mapped == connection.near, f"{connection.near} was told {mapped}")


# Answers that are none


@case(
    8489,
    "6.3",
    MUST,
    'If the message class is "Success Response" or "Error Response", the agent checks that the transaction ID matches '
    "a transaction that is still in progress.",
)
async def an_answer_to_something_else(trial: Trial) -> None:
    """A success with another transaction id is none."""
    port = await trial.meet(polite=False)
    check = await trial.check_on(port)
    answer = Draft(Kind.SUCCESS).add(Attr.XOR_MAPPED_ADDRESS, stun.xor_address(check.far, bytes(12)))
    port.send(trial.peer.signed(answer, check))
    await _is_not_valid(trial)


@case(
    8489,
    "6.3.3",
    MUST,
    "If the success response contains unknown comprehension-required attributes, the response is discarded and the "
    "transaction is considered to have failed.",
)
async def unknown_attribute_in_a_success(trial: Trial) -> None:
    """A success with an unknown required attribute does not let the agent connect."""
    port = await trial.meet(polite=False)
    trial.peer.replies(port, lambda check: [_with_unknown(trial, check)])
    await trial.check_on(port)
    await _is_not_valid(trial)


@case(8489, "6.3.3", MUST, "the response is discarded and the transaction is considered to have failed.")
async def unknown_attribute_ends_the_transaction(trial: Trial) -> None:
    """... and ends the transaction."""
    port, check = await _first_check(trial)
    port.send(_with_unknown(trial, check))
    await _is_over(port, check)


def _with_unknown(trial: Trial, check: Packet) -> Draft:
    return trial.peer.signed(trial.peer.bare_success(check).add(UNKNOWN_REQUIRED, b"what"), check)


@case(
    8489,
    "6.3.3",
    MUST,
    "For the Binding method, the client checks that the XOR-MAPPED-ADDRESS attribute is present in the response.",
)
async def no_mapped_address(trial: Trial) -> None:
    """A success without XOR-MAPPED-ADDRESS does not let the agent connect."""
    port = await trial.meet(polite=False)
    trial.peer.replies(port, lambda check: [trial.peer.signed(Draft(Kind.SUCCESS, check.data[8:20]), check)])
    await trial.check_on(port)
    await _is_not_valid(trial)


@case(
    8489,
    "6.3.4",
    MUST,
    "if the error response does not contain an ERROR-CODE attribute, then the transaction is simply considered to have "
    "failed.",
)
async def an_error_without_a_code(trial: Trial) -> None:
    """An error response without ERROR-CODE ends the transaction."""
    port, check = await _first_check(trial)
    port.send(trial.peer.signed(Draft(Kind.ERROR, check.data[8:20]), check))
    await _is_over(port, check)


@case(8489, "6.3.4", MUST, "If the error code is 400 through 499, the client declares the transaction failed")
async def an_error_from_400_on(trial: Trial) -> None:
    """An authenticated 420 ends the transaction."""
    port, check = await _first_check(trial)
    port.send(trial.peer.error(check, 420))
    await _is_over(port, check)
    await _is_not_valid(trial, 0.1)


@case(
    8489,
    "6.3.4",
    MUST,
    "If the error code is 500 through 599, the client MAY resend the request; clients that do so MUST limit the number "
    "of times they do this.",
)
async def an_error_from_500_on(trial: Trial) -> str:
    """Where every answer is a 500, there is an end of requests."""
    port = await trial.meet(polite=False)
    trial.peer.replies(port, lambda check: [trial.peer.error(check, 500)])
    await trial.check_on(port)
    await trial.pause(3.0)
    asked = len({packet.data[8:20] for packet in port.received(CHECK)})
    require(asked <= 10, f"{asked} requests came within 3 s")
    return f"{asked} requests came within 3 s"


@case(8489, "6.3.4", MUST, "Any other error code causes the client to consider the transaction failed.")
async def an_error_of_no_known_class(trial: Trial) -> None:
    """An authenticated 699 ends the transaction."""
    port, check = await _first_check(trial)
    port.send(trial.peer.error(check, 699))
    await _is_over(port, check)
    await _is_not_valid(trial, 0.1)


@case(
    8489,
    "14.8",
    MUST,
    "The Reserved bits SHOULD be 0 and are for alignment on 32-bit boundaries. Receivers MUST ignore these bits.",
)
async def reserved_bits_of_an_error_code(trial: Trial) -> None:
    """A 487 whose reserved bits are set is a 487: the role changes."""
    port, check = await _first_check(trial)
    value = b"\xff\xff\xfc" + bytes([87])
    port.send(trial.peer.signed(Draft(Kind.ERROR, check.data[8:20]).add(Attr.ERROR_CODE, value), check))
    while _same(again := await trial.check_on(port), check):
        pass
    require(again.message is not None and again.message.has(Attr.ICE_CONTROLLING), "the role did not change")


# Authentication of answers


async def _discarded(trial: Trial, make: Callable[[Packet], Iterable[Draft]]) -> None:
    """Such answers are as if they had never come: the request is retransmitted, and a right answer counts."""
    port = await trial.meet(polite=False)
    trial.peer.replies(port, make)
    await _sendings(trial, port, 2, within=4 * _RTO)
    await _is_not_valid(trial, 0.1)
    trial.peer.answers(port)
    await trial.select(port)


_AS_IF_NEVER = (
    "If the request was sent over an unreliable transport, the response MUST be discarded, as if it had never been "
    "received. This means that retransmits, if applicable, will continue."
)


@case(8489, "9.1.4", MUST, _AS_IF_NEVER)
async def an_answer_with_wrong_integrity(trial: Trial) -> None:
    """A success that another password protects is ignored."""
    await _discarded(trial, lambda check: [trial.peer.bare_success(check).integrity(_WRONG_PASSWORD).fingerprint()])


@case(8489, "9.1.4", MUST, _AS_IF_NEVER)
async def an_answer_without_integrity(trial: Trial) -> None:
    """A success without integrity is ignored."""
    await _discarded(trial, lambda check: [trial.peer.bare_success(check).fingerprint()])


@case(8489, "9.1.4", MUST, _AS_IF_NEVER)
async def a_forged_role_conflict(trial: Trial) -> None:
    """A 487 without integrity is ignored: the role stays."""
    port = await trial.meet(polite=False)
    error = stun.error_value(487, "Role Conflict")
    trial.peer.replies(
        port, lambda check: [Draft(Kind.ERROR, check.data[8:20]).add(Attr.ERROR_CODE, error).fingerprint()]
    )
    first = await trial.check_on(port)
    again = await trial.check_on(port, 4 * _RTO)
    require(_same(first, again), "the request changed")


@case(
    8489,
    "9.1.4",
    MUST,
    "the algorithm in the response has to match; otherwise, the response MUST be discarded.",
)
async def an_answer_with_another_algorithm(trial: Trial) -> str | None:
    """A success with the integrity that the request had not is ignored."""
    port, check = await _first_check(trial)
    assert check.message is not None
    sha1, sha256 = (check.message.has(each) for each in (Attr.MESSAGE_INTEGRITY, Attr.MESSAGE_INTEGRITY_SHA256))
    if sha1 and sha256:
        return "the request had both, so either matches"
    answer = trial.peer.bare_success(check)
    answer = answer.integrity_sha256(trial.peer.pwd) if sha1 else answer.integrity(trial.peer.pwd)
    port.send(answer.fingerprint())
    await _is_not_valid(trial)
    return None


@case(
    8489,
    "9.1.4",
    MUST,
    "If the request was sent over a reliable transport, the response MUST be discarded, and the layer MUST immediately "
    "end the transaction and signal that the integrity protection was violated.",
    needs=(Capability.TCP_ACTIVE,),
)
async def a_forged_answer_over_tcp_is_discarded(trial: Trial) -> None:
    """Over TCP a success that another password protects does not let the agent connect."""
    connection = await _forged_over_tcp(trial)
    await _is_not_valid(trial)
    require(connection.received(CHECK), "no request came")


@case(
    8489,
    "9.1.4",
    MUST,
    "the layer MUST immediately end the transaction and signal that the integrity protection was violated.",
    needs=(Capability.TCP_ACTIVE,),
)
async def a_forged_answer_over_tcp_ends_it(trial: Trial) -> None:
    """... and ends the transaction: a right answer after it is too late."""
    connection = await _forged_over_tcp(trial)
    connection.send(trial.peer.success(connection.received(CHECK)[0]))
    await _is_not_valid(trial)


async def _forged_over_tcp(trial: Trial) -> Connection:
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    check = await trial.check_on(connection)
    connection.send(trial.peer.bare_success(check).integrity(_WRONG_PASSWORD).fingerprint())
    return connection


@case(
    8489,
    "14.3",
    MUST,
    "A compliant implementation MUST be able to parse a UTF-8-encoded sequence of 763 or fewer octets to be compatible "
    "with [RFC5389].",
)
async def a_long_username(trial: Trial) -> None:
    """A USERNAME of 763 bytes, which begins with the agent's fragment and a colon, is read: it gets an answer."""
    port = await trial.meet()
    room = 763 - len(trial.told.ufrag) - 1
    answer = await trial.ask(port, trial.peer.sealed(trial.peer.draft(username=f"{trial.told.ufrag}:{'u' * room}")))
    if answer.error not in (None, 401):
        raise NotConforming(f"it was refused with {answer.error}")
