from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ice_tcp.datapath import (
    CHUNK_BYTES,
    STUN_QUEUE_BYTES,
    DatagramPath,
    StreamFault,
    StreamPath,
    stream_chunks,
)
from ice_tcp.stun import is_stun
from tests.test_framing import cut, frame, sizes_strategy

MAGIC_COOKIE = b"\x21\x12\xa4\x42"


def stun(attributes: bytes = b"") -> bytes:
    """A Binding request as far as telling it from data goes."""
    return b"\x00\x01" + len(attributes).to_bytes(2, "big") + MAGIC_COOKIE + bytes(12) + attributes


RTP_WITH_COOKIE = b"\x80\x60\x00\x00" + MAGIC_COOKIE + bytes(12)
DTLS_WITH_COOKIE = b"\x16\xfe\xfd\x00" + MAGIC_COOKIE + bytes(12)
WRONG_LENGTH = b"\x00\x01\x00\x08" + MAGIC_COOKIE + bytes(12)
ODD_LENGTH = b"\x00\x01\x00\x02" + MAGIC_COOKIE + bytes(14)
LOOKALIKES = [RTP_WITH_COOKIE, DTLS_WITH_COOKIE, WRONG_LENGTH, ODD_LENGTH, stun()[:-1], b"", b"\x00", MAGIC_COOKIE]


def stream_path(early_limit: int = 1000, send_limit: int = 1000) -> StreamPath:
    return StreamPath(early_limit=early_limit, send_limit=send_limit)


@pytest.mark.parametrize("packet", LOOKALIKES)
def test_what_only_is_stun_is_data(packet: bytes) -> None:
    assert not is_stun(packet)


def test_stun_is_told_by_bits_cookie_and_length() -> None:
    assert is_stun(stun())
    assert is_stun(stun(bytes(8)))
    assert is_stun(memoryview(stun(bytes(8))))


# Streams


@given(st.lists(st.sampled_from([stun(), stun(bytes(8)), *LOOKALIKES]) | st.binary(max_size=30)), sizes_strategy)
def test_any_split_of_a_stream_tells_stun_from_data(packets: list[bytes], sizes: list[int]) -> None:
    path = stream_path()
    path.admit()
    packets = [stun(), *packets]
    messages, data = [], []
    for piece in cut(b"".join(map(frame, packets)), sizes):
        received = path.receive(piece)
        messages += received.stun
        data += received.data
    assert messages == [packet for packet in packets if is_stun(packet)]
    assert data == [packet for packet in packets if packet and not is_stun(packet)]
    assert path.traffic.packets_received == len(data)
    assert path.traffic.bytes_received == sum(map(len, data))


def test_early_data_waits_for_admit_in_order() -> None:
    path = stream_path()
    received = path.receive(frame(stun()) + frame(b"one") + frame(b"two"))
    assert received == ([stun()], [])
    assert path.fault is None
    assert path.admit() == [b"one", b"two"]
    assert path.receive(frame(b"three")) == ([], [b"three"])
    assert path.admit() == []


def test_too_much_early_data_is_a_fault() -> None:
    path = stream_path(early_limit=10)
    path.receive(frame(stun()) + frame(bytes(10)))
    assert path.fault is None
    path.receive(frame(b"x"))
    assert path.fault is StreamFault.TOO_MUCH_EARLY_DATA
    assert path.receive(frame(stun())) == ([], [])


def test_early_data_is_not_too_much_when_the_same_chunk_admits() -> None:
    path = stream_path(early_limit=10)
    assert path.receive(frame(stun()) + frame(bytes(100))).stun == [stun()]
    assert path.admit() == [bytes(100)]
    assert path.fault is None


@pytest.mark.parametrize("packet", [packet for packet in LOOKALIKES if packet])
def test_the_first_packet_must_be_stun(packet: bytes) -> None:
    path = stream_path()
    assert path.receive(frame(packet) + frame(stun())) == ([], [])
    assert path.fault is StreamFault.NOT_STUN


def test_empty_frames_may_come_before_the_first_packet() -> None:
    path = stream_path()
    assert path.receive(frame(b"") + frame(b"") + frame(stun())) == ([stun()], [])
    assert path.fault is None


def test_a_service_without_frames_is_found_out_before_its_frame_completes() -> None:
    path = stream_path()
    path.receive(b"SSH-2.0-")
    assert path.fault is None
    path.receive(b"Open")
    assert path.fault is StreamFault.NOT_STUN


@given(sizes_strategy)
def test_a_valid_first_packet_is_never_a_fault_however_it_is_split(sizes: list[int]) -> None:
    path = stream_path()
    for piece in cut(frame(stun(bytes(40))), sizes):
        path.receive(piece)
        assert path.fault is None


def test_stun_overtakes_data_and_counts_apart() -> None:
    path = stream_path()
    assert path.send_data(b"data")
    assert path.send_stun(stun())
    assert b"".join(path.take()) == frame(stun()) + frame(b"data")
    path.written(6 + len(frame(stun())))
    assert path.pending == 0
    assert (path.traffic.packets_sent, path.traffic.bytes_sent) == (1, 4)


def test_the_send_buffer_is_bounded() -> None:
    path = stream_path(send_limit=100)
    assert path.send_data(bytes(98))
    assert not path.send_data(b"x")
    assert path.pending == 100
    assert path.send_stun(stun()), "STUN does not wait behind data"
    with pytest.raises(ValueError, match="65536 bytes"):
        path.send_data(bytes(65536))


def test_waiting_stun_is_bounded() -> None:
    path = stream_path()
    queued = 0
    while path.send_stun(stun(bytes(1000))):
        queued += 1
        path.take()
        path.written(0)
    assert STUN_QUEUE_BYTES <= path.pending < STUN_QUEUE_BYTES + 2000
    assert queued == path.pending // 1022


# Byte streams


@given(st.lists(st.sampled_from([stun(), stun(bytes(4)), stun(bytes(16364)), bytes(16384), b"x"]), max_size=6))
def test_no_chunk_of_a_byte_stream_reads_as_stun(parts: list[bytes]) -> None:
    data = b"".join(parts)
    cut = list(stream_chunks(data))
    assert b"".join(cut) == data
    assert not any(is_stun(chunk) or not chunk for chunk in cut)


def test_chunks_are_as_large_as_may_be() -> None:
    assert [len(chunk) for chunk in stream_chunks(bytes(2 * CHUNK_BYTES + 7))] == [CHUNK_BYTES, CHUNK_BYTES, 7]


# Datagrams


def datagram_path(early_limit: int = 1000, early_count: int = 64) -> DatagramPath:
    return DatagramPath(early_limit=early_limit, early_count=early_count)


@pytest.mark.parametrize("packet", [packet for packet in LOOKALIKES if packet])
def test_datagrams_that_resemble_stun_are_data(packet: bytes) -> None:
    path = datagram_path()
    path.admit("peer")
    assert path.receive([packet], "peer") == ([], [packet])


def test_empty_datagrams_vanish() -> None:
    path = datagram_path()
    path.admit("peer")
    assert path.receive([b""], "peer") == ([], [])


def test_data_of_a_source_waits_for_its_admission() -> None:
    path = datagram_path()
    for source, data in [("a", b"a1"), ("b", b"b1"), ("a", b"a2")]:
        assert path.receive([data], source) == ([], [])
    assert path.traffic("a") is None
    assert path.admit("a") == [b"a1", b"a2"]
    assert path.receive([b"a3"], "a") == ([], [b"a3"])
    assert path.receive([b"b2"], "b") == ([], [])
    assert path.admit("b") == [b"b1", b"b2"]
    traffic = path.traffic("a")
    assert traffic is not None
    assert (traffic.packets_received, traffic.bytes_received) == (3, 6)


def test_stun_of_any_source_is_handed_out() -> None:
    assert datagram_path().receive([stun()], "anyone") == ([stun()], [])


def test_data_of_unknown_sources_is_bounded_and_the_oldest_goes() -> None:
    path = datagram_path(early_limit=10, early_count=3)
    for number in range(5):
        path.receive([b"%d" % number], "stranger")
    assert path.discarded == 2
    path.receive([bytes(9)], "stranger")
    assert path.discarded == 4
    path.receive([bytes(11)], "stranger")
    assert path.discarded == 7
    assert path.admit("stranger") == []


def test_datagrams_of_one_turn_are_told_apart() -> None:
    path = datagram_path()
    path.admit("peer")
    received = path.receive([b"a" * 20, stun(), b"b" * 20, b"", b"c"], "peer")
    assert received == ([stun()], [b"a" * 20, b"b" * 20, b"c"])
    traffic = path.traffic("peer")
    assert traffic is not None
    assert (traffic.packets_received, traffic.bytes_received) == (3, 41)
