"""What nobody should send: malformed, oversized, too much. The agent must live, and do its work as before."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable, Iterable

from interop.conformance.case import Level, case
from interop.conformance.stun import COOKIE, UNKNOWN_OPTIONAL, Attr, Draft, Kind
from interop.conformance.target import Capability
from interop.conformance.trial import PASSIVE, UDP, Trial
from interop.conformance.wire import Channel, Connection, Packet

MUST = Level.MUST

_PASSIVE = (Capability.TCP_PASSIVE,)
_DISCARDED = "If any errors are detected, the message is silently discarded."
_LONGEST = 65_507
"""Bytes of a datagram over IPv4 at most."""
_BURST = 20
"""Packets that are sent in a row, so that no buffer of the system overflows."""


async def _survives(trial: Trial, packets: Iterable[bytes | Draft]) -> None:
    """After all of this on a selected pair, checks are answered and data flows."""
    port = await trial.join()
    await _pour(trial, port, packets)
    await trial.succeeds(port)
    await trial.flows(port)


async def _pour(trial: Trial, channel: Channel, packets: Iterable[bytes | Draft]) -> None:
    for n, packet in enumerate(packets):
        channel.send(packet)
        if n % _BURST == _BURST - 1:
            await trial.pause(0.005)


def _noise(seed: int, *sizes: int) -> Iterable[bytes]:
    source = random.Random(seed)
    return (source.randbytes(size) for size in sizes)


# Datagrams


@case(8489, "6.3", MUST, _DISCARDED)
async def short_datagrams(trial: Trial) -> None:
    """Datagrams of 0 to 19 bytes, the beginnings of a request, do no harm."""
    request = bytes(Draft(Kind.REQUEST).fingerprint())
    await _survives(trial, [request[:size] for size in range(20)])


@case(8489, "6.3", MUST, _DISCARDED)
async def cut_requests(trial: Trial) -> None:
    """A right request, cut after each of its bytes, does no harm."""
    port = await trial.join()
    request = bytes(trial.peer.request())
    await _pour(trial, port, [request[:size] for size in range(20, len(request))])
    await trial.succeeds(port)
    await trial.flows(port)


@case(8489, "6.3", MUST, _DISCARDED)
async def random_bytes(trial: Trial) -> None:
    """A thousand datagrams of random bytes do no harm."""
    source = random.Random(6544)
    await _survives(trial, _noise(1, *(source.randrange(1, 1200) for _ in range(1000))))


@case(8489, "6.3", MUST, _DISCARDED)
async def random_attributes(trial: Trial) -> None:
    """Five hundred requests with a right header and random attributes do no harm."""
    source = random.Random(8489)
    bodies = _noise(2, *(4 * source.randrange(1, 60) for _ in range(500)))
    await _survives(trial, (Draft(Kind.REQUEST).raw(body) for body in bodies))


@case(8489, "6.3", MUST, _DISCARDED)
async def the_longest_datagrams(trial: Trial) -> None:
    """Datagrams of 65507 bytes, with and without a STUN header, do no harm."""
    header = struct.pack("!HH", 1, _LONGEST - 20 - 3) + COOKIE + bytes(12)
    await _survives(trial, [bytes(_LONGEST), header.ljust(_LONGEST, b"\xff"), *_noise(3, _LONGEST)])


@case(8489, "6.3", MUST, "Unknown comprehension-optional attributes MUST be ignored by the agent.")
async def thousands_of_attributes(trial: Trial) -> None:
    """A request with 10000 unknown optional attributes is granted or ignored, and the agent goes on."""
    port = await trial.join()
    request = trial.peer.draft()
    request.raw(struct.pack("!HH", UNKNOWN_OPTIONAL, 0) * 10_000)
    port.send(trial.peer.sealed(request))
    await trial.succeeds(port)
    await trial.flows(port)


@case(8489, "6.3", MUST, _DISCARDED)
async def attributes_of_wrong_lengths(trial: Trial) -> None:
    """Protected requests whose PRIORITY and role have odd lengths do no harm."""
    port = await trial.join()
    for attribute in (Attr.PRIORITY, Attr.ICE_CONTROLLING, Attr.ICE_CONTROLLED, Attr.USE_CANDIDATE):
        for size in (0, 1, 3, 5, 7, 9, 40):
            request = Draft(Kind.REQUEST).add(Attr.USERNAME, f"{trial.told.ufrag}:{trial.peer.ufrag}".encode())
            port.send(trial.peer.sealed(request.add(attribute, bytes(size))))
    await trial.succeeds(port)
    await trial.flows(port)


@case(8489, "6.3", MUST, _DISCARDED)
async def usernames_that_are_no_text(trial: Trial) -> None:
    """Requests whose USERNAME is no UTF-8, empty, or very long do no harm."""
    names = (b"", b":", b"\xff\xfe\xfd", b"\xc3", b"a:" + b"\0" * 600, b":" * 500)
    await _survives(
        trial, (Draft(Kind.REQUEST).add(Attr.USERNAME, name).integrity("x").fingerprint() for name in names)
    )


@case(8489, "6.3", MUST, _DISCARDED)
async def answers_that_nobody_awaits(trial: Trial) -> None:
    """Five hundred successes and errors of unknown transactions do no harm."""
    kinds = (Kind.SUCCESS, Kind.ERROR)
    await _survives(trial, (Draft(kinds[n % 2]).integrity("x").fingerprint() for n in range(500)))


@case(8489, "6.3", MUST, _DISCARDED)
async def malformed_mapped_addresses(trial: Trial) -> None:
    """Protected successes whose XOR-MAPPED-ADDRESS is malformed do no harm, and a right one counts after them."""
    values = (b"", b"\0", b"\0\1\0\0", b"\0\3\x21\x12\x21\x12\xa4\x42", b"\0\1" + bytes(20), b"\0\2" + bytes(6))

    def answers(check: Packet) -> list[Draft]:
        return [
            trial.peer.signed(Draft(Kind.SUCCESS, check.data[8:20]).add(Attr.XOR_MAPPED_ADDRESS, value), check)
            for value in values
        ]

    await _answered_after(trial, answers)


@case(8489, "6.3.4", MUST, "Any other error code causes the client to consider the transaction failed.")
async def malformed_error_codes(trial: Trial) -> None:
    """Errors without integrity whose ERROR-CODE is malformed do no harm, and a right answer counts after them."""
    values = (b"", b"\0", b"\0\0\4", b"\0\0\7\x63", b"\0\0\0\0", b"\0\0\4\x01\xff\xfe", b"\0\0\4\xc8")

    def answers(check: Packet) -> list[Draft]:
        return [Draft(Kind.ERROR, check.data[8:20]).add(Attr.ERROR_CODE, value).fingerprint() for value in values]

    await _answered_after(trial, answers)


async def _answered_after(trial: Trial, bad: Callable[[Packet], list[Draft]]) -> None:
    """A check that first gets bad answers and then, in time, a good one lets the agent connect."""
    port = await trial.meet(polite=False)
    trial.peer.replies(port, lambda check: [*bad(check), trial.peer.success(check)])
    await trial.check_on(port)
    await trial.succeeds(port)
    await trial.select(port)


@case(
    8489,
    "6.3.1",
    MUST,
    "The server MUST respond to retransmissions such that the following property is preserved:",
)
async def a_request_replayed(trial: Trial) -> None:
    """One request that comes three hundred times is answered each time, or at least once, and does no harm."""
    port = await trial.join()
    request = bytes(trial.peer.request())
    await _pour(trial, port, [request] * 300)
    await trial.succeeds(port)
    await trial.flows(port)


@case(
    8445,
    "7.3.1.3",
    MUST,
    "If the source transport address of the request does not match any existing remote candidates, it represents a new "
    "peer-reflexive remote candidate.",
)
async def requests_from_many_ports(trial: Trial) -> None:
    """Right requests from 150 ports do no harm: the pair that is nominated then is selected."""
    port = await trial.meet()
    for n in range(150):
        trial.udp().send(trial.peer.request(priority=1000 + n))
        if n % _BURST == 0:
            await trial.pause(0.01)
    await trial.select(port)
    await trial.flows(port)


@case(
    8839,
    "5.1",
    MUST,
    "An implementation MUST ignore any name/value pairs it doesn't understand.",
)
async def lines_that_are_no_candidates(trial: Trial) -> None:
    """Lines of SDP that are no candidates are ignored, and the good one among them is used."""
    await trial.create(UDP)
    port = trial.udp()
    trial.peer.answers(port)
    bad = (
        "candidate:",
        "candidate:1 1 UDP",
        "candidate:1 x UDP 1 127.0.0.1 9 typ host",
        "candidate:1 1 UDP 99999999999 127.0.0.1 9 typ host",
        "candidate:1 1 UDP 1 127.0.0.1 99999 typ host",
        "candidate:1 1 UDP 1 300.1.1.1 9 typ host",
        "candidate:1 1 TCP 1 127.0.0.1 9 typ host",
    )
    await trial.introduce(*bad, trial.peer.candidate(port))
    await trial.select(port)


# Connections


async def _crowded(trial: Trial, number: int, first: bytes) -> None:
    """Beside so many connections that have sent only this, another one is served."""
    await trial.create(PASSIVE)
    await trial.introduce(trial.peer.candidate((trial.candidate(PASSIVE).host, 9), tcptype="active"))
    crowd = [await trial.dial() for _ in range(number)]
    for each in crowd:
        each.write(first)
    await trial.pause(0.1)
    connection = await trial.dial()
    trial.peer.answers(connection)
    await trial.select(connection)
    await trial.flows(connection)


_ACCEPT = "When the connection request is received, the agent MUST accept it."


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def idle_connections(trial: Trial) -> None:
    """Beside forty connections on which nothing comes, another one is served."""
    await _crowded(trial, 40, b"")


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def connections_with_half_a_frame(trial: Trial) -> None:
    """Beside thirty connections that have sent half a frame, another one is served."""
    await _crowded(trial, 30, b"\xff\xff\x00\x01")


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def connections_that_speak_something_else(trial: Trial) -> None:
    """Beside ten connections that speak HTTP, another one is served."""
    await _crowded(trial, 10, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def connections_that_are_reset(trial: Trial) -> None:
    """After twenty connections that were reset in the middle of a frame, another one is served."""
    await trial.create(PASSIVE)
    await trial.introduce(trial.peer.candidate((trial.candidate(PASSIVE).host, 9), tcptype="active"))
    for _ in range(20):
        connection = await trial.dial()
        connection.write(b"\x00\x60\x00\x01")
        connection.close(reset=True)
    connection = await trial.dial()
    trial.peer.answers(connection)
    await trial.select(connection)


@case(
    6544,
    "10.2",
    MUST,
    "The framing defined in RFC 4571 MUST be used when receiving media.",
    needs=_PASSIVE,
)
async def random_frames(trial: Trial) -> None:
    """Frames of random bytes on the selected connection are data, and checks on it are answered."""
    connection = await trial.join_tcp(PASSIVE)
    noise = [bytes([0x80]) + each for each in _noise(5, *range(1, 200))]
    await connection.write_all(b"".join(len(each).to_bytes(2, "big") + each for each in noise))
    await trial.succeeds(connection)
    for each in (noise[0], noise[-1]):
        await trial.receives(each)


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def too_much_before_the_first_check(trial: Trial) -> None:
    """A connection that sends two megabytes before any check does no harm to another one."""
    await trial.create(PASSIVE)
    await trial.introduce(trial.peer.candidate((trial.candidate(PASSIVE).host, 9), tcptype="active"))
    flood = await trial.dial()
    flood.write(_frame(bytes(Draft(Kind.REQUEST).fingerprint())))
    for _ in range(64):
        if not await _written(flood, _frame(b"\x80" * 32_000)):
            break
    connection = await trial.dial()
    trial.peer.answers(connection)
    await trial.select(connection)
    await trial.flows(connection)


def _frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


async def _written(connection: Connection, data: bytes) -> bool:
    """Whether the agent took it within a moment."""

    try:
        async with asyncio.timeout(0.2):
            await connection.write_all(data)
    except TimeoutError:
        return False
    return not connection.ended
