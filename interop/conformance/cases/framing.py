"""Frames on TCP connections (RFC 4571), as they come and as they go."""

from __future__ import annotations

from interop.conformance.case import Level, case, require
from interop.conformance.peer import DATA, answer_to
from interop.conformance.target import Capability
from interop.conformance.trial import PASSIVE, Trial
from interop.conformance.wire import Connection

MUST = Level.MUST

_PASSIVE = (Capability.TCP_PASSIVE,)


def _framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


async def _open(trial: Trial) -> Connection:
    """A connection to a passive candidate that has not heard anything yet."""
    await trial.create(PASSIVE)
    connection = await trial.dial()
    trial.peer.answers(connection)
    return connection


@case(
    4571,
    "2",
    MUST,
    "A 16-bit unsigned integer LENGTH field, coded in network byte order (big-endian), begins the frame.",
    needs=_PASSIVE,
)
async def length_is_big_endian(trial: Trial) -> None:
    """A message of 258 bytes begins with 01 02."""
    connection = await trial.join_tcp(PASSIVE)
    await trial.agent.send(b"d" * 258, 1)
    await connection.expect(DATA)
    require(b"\x01\x02" + b"d" * 258 in connection.stream, "it does not")


@case(
    4571,
    "2",
    MUST,
    "The value coded in the LENGTH field MUST equal the number of octets in the RTP or RTCP packet.",
    needs=_PASSIVE,
)
async def length_counts_the_packet(trial: Trial) -> None:
    """LENGTH does not count itself: what follows an answer on the stream is the next frame."""
    connection = await _open(trial)
    await trial.succeeds(connection)
    length = int.from_bytes(connection.stream[:2], "big")
    said = int.from_bytes(connection.stream[4:6], "big") + 20
    require(length == said, f"LENGTH is {length}, and the STUN message has {said} bytes")


@case(4571, "2", MUST, "Zero is a valid value for LENGTH, and it codes the null packet.", needs=_PASSIVE)
async def null_packets_are_legal(trial: Trial) -> None:
    """Null packets before, between and after messages do no harm."""
    connection = await _open(trial)
    request = trial.peer.request()
    connection.write(bytes(4) + _framed(bytes(request)) + bytes(6))
    await connection.expect(answer_to(request))
    await trial.succeeds(connection)


@case(4571, "2", MUST, "Zero is a valid value for LENGTH, and it codes the null packet.", needs=_PASSIVE)
async def null_packets_are_no_data(trial: Trial) -> None:
    """A null packet between two messages does not end the connection, nor the data."""
    connection = await trial.join_tcp(PASSIVE)
    connection.write(_framed(b"before") + bytes(2) + _framed(b"after"))
    await trial.receives(b"before")
    await trial.receives(b"after")
    require(b"" not in trial.delivered, "the application got an empty message")


_FRAMES = "If LENGTH is non-zero, an RTP or RTCP packet follows the LENGTH field."


@case(4571, "2", MUST, _FRAMES, needs=_PASSIVE)
async def a_request_byte_by_byte(trial: Trial) -> None:
    """A request that comes byte by byte is answered."""
    connection = await _open(trial)
    request = trial.peer.request()
    for byte in _framed(bytes(request)):
        connection.write(bytes([byte]))
        await trial.pause(0.002)
    await connection.expect(answer_to(request))


@case(4571, "2", MUST, _FRAMES, needs=_PASSIVE)
async def many_requests_at_once(trial: Trial) -> None:
    """Twenty requests in one segment get twenty answers."""
    connection = await _open(trial)
    requests = [trial.peer.request() for _ in range(20)]
    connection.write(b"".join(_framed(bytes(request)) for request in requests))
    for request in requests:
        await connection.expect(answer_to(request))


@case(4571, "2", MUST, _FRAMES, needs=_PASSIVE)
async def a_frame_in_two_parts(trial: Trial) -> None:
    """A frame that is cut between the two bytes of its LENGTH, with a pause, is one frame."""
    connection = await trial.join_tcp(PASSIVE)
    frame = _framed(b"split in the middle of its length")
    connection.write(_framed(b"first") + frame[:1])
    await trial.receives(b"first")
    await trial.pause(0.1)
    connection.write(frame[1:])
    await trial.receives(b"split in the middle of its length")


@case(4571, "2", MUST, _FRAMES, needs=_PASSIVE)
async def the_longest_frame(trial: Trial) -> None:
    """A frame of 65535 bytes reaches the application whole."""
    connection = await trial.join_tcp(PASSIVE)
    await connection.write_all(_framed(b"l" * 65_535))
    await trial.receives(b"l" * 65_535)


@case(4571, "2", MUST, _FRAMES, needs=_PASSIVE)
async def data_and_stun_in_turn(trial: Trial) -> None:
    """Data and requests that come in turn are told apart, and keep their order."""
    connection = await trial.join_tcp(PASSIVE)
    requests = [trial.peer.request() for _ in range(5)]
    for n, request in enumerate(requests):
        connection.write(_framed(b"data %d" % n) + _framed(bytes(request)))
    for request in requests:
        await connection.expect(answer_to(request))
    await trial.receives(b"data 4")
    got = [each for each in trial.delivered if each.startswith(b"data")]
    require(got == [b"data %d" % n for n in range(5)], f"the application got {got}")
