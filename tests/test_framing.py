from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ice_tcp.framing import (
    JOIN_BYTES,
    JOIN_FRAMES,
    MAX_FRAME_BYTES,
    FrameQueue,
    FrameSplitter,
    FramingError,
    ServerStreamSplitter,
)
from ice_tcp.stun import MessageClass, Method, data, encode


def frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """``stream`` in pieces of the given sizes, in turn."""
    pieces, position, turn = [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        pieces.append(stream[position : position + size])
        position += size
        turn += 1
    return pieces


def drain(queue: FrameQueue) -> bytes:
    written = bytearray()
    while batch := queue.take():
        written += b"".join(batch)
        queue.written(sum(map(len, batch)))
    return bytes(written)


packets_strategy = st.lists(st.binary(max_size=40) | st.just(b"x" * 300), max_size=12)
sizes_strategy = st.lists(st.integers(1, 50), min_size=1, max_size=8)


@given(packets_strategy, sizes_strategy, st.booleans())
def test_any_split_gives_the_same_packets(packets: list[bytes], sizes: list[int], as_view: bool) -> None:
    splitter = FrameSplitter()
    stream = b"".join(map(frame, packets))
    received = []
    for piece in cut(stream, sizes):
        received += splitter.feed(memoryview(bytearray(piece)) if as_view else piece)
    assert received == [packet for packet in packets if packet]
    assert not splitter.unfinished


def test_split_between_the_two_bytes_of_length() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"\x00") == []
    assert splitter.feed(b"") == []
    assert splitter.feed(b"\x03") == []
    assert splitter.feed(b"abc\x00") == [b"abc"]
    assert splitter.unfinished == b"\x00"


def test_zero_length_split_between_its_bytes_vanishes() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"\x00") == []
    assert splitter.feed(b"\x00\x00\x01a") == [b"a"]


def test_packets_own_their_bytes() -> None:
    buffer = bytearray(frame(b"first"))
    (packet,) = FrameSplitter().feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert packet == b"first"


def test_a_frame_that_never_completes_keeps_at_most_one_frame() -> None:
    splitter = FrameSplitter()
    splitter.feed(b"\xff\xff")
    for _ in range(65534):
        assert splitter.feed(b"x") == []
    assert len(splitter.unfinished) == 2 + 65534
    assert splitter.feed(b"xy") == [b"x" * 65535]
    assert splitter.unfinished == b"y"


def test_queue_writes_frames_in_order() -> None:
    queue = FrameQueue()
    queue.put(b"one")
    queue.put(b"")
    queue.put(b"two")
    assert queue.pending == 12
    assert drain(queue) == b"\x00\x03one\x00\x00\x00\x03two"
    assert queue.pending == 0


def test_urgent_goes_before_data_that_was_not_begun() -> None:
    queue = FrameQueue()
    queue.put(b"data")
    queue.put_urgent(b"stun")
    assert drain(queue) == frame(b"stun") + frame(b"data")


def test_a_frame_written_in_part_is_finished_before_urgent() -> None:
    for begun in range(1, 6):
        queue = FrameQueue()
        queue.put(b"data")
        queue.put(b"more")
        stream = b"".join(queue.take())[:begun]
        queue.written(begun)
        queue.put_urgent(b"stun")
        assert stream + drain(queue) == frame(b"data") + frame(b"stun") + frame(b"more")


def test_a_begun_frame_stays_first_when_nothing_could_be_written() -> None:
    queue = FrameQueue()
    queue.put(b"data")
    queue.take()
    queue.written(3)
    queue.put_urgent(b"stun")
    queue.take()
    queue.written(0)
    queue.put_urgent(b"late")
    assert drain(queue) == b"ata" + frame(b"stun") + frame(b"late")


def test_urgent_that_could_not_be_written_still_counts_as_urgent() -> None:
    queue = FrameQueue()
    queue.put(b"data")
    queue.put_urgent(b"stun")
    queue.take()
    queue.written(0)
    assert queue.urgent_pending == 6
    queue.put_urgent(b"next")
    assert drain(queue) == frame(b"stun") + frame(b"next") + frame(b"data")


def test_one_write_is_bounded_in_bytes_and_in_buffers() -> None:
    queue = FrameQueue()
    for _ in range(20):
        queue.put(bytes(MAX_FRAME_BYTES))
    assert JOIN_BYTES <= sum(map(len, queue.take())) < JOIN_BYTES + MAX_FRAME_BYTES + 2
    queue = FrameQueue()
    for _ in range(3000):
        queue.put(b"x")
    assert len(queue.take()) == 2 * JOIN_FRAMES


@given(
    st.lists(
        st.tuples(st.just("data"), st.binary(max_size=20))
        | st.tuples(st.just("urgent"), st.binary(min_size=1, max_size=20))
        | st.tuples(st.just("write"), st.integers(0, 60)),
        max_size=40,
    )
)
@settings(max_examples=300)
def test_any_partial_writes_give_whole_frames_in_order(steps: list[tuple[str, bytes | int]]) -> None:
    queue = FrameQueue()
    sent: dict[str, list[bytes]] = {"data": [], "urgent": []}
    stream = bytearray()
    for kind, value in steps:
        if isinstance(value, int):
            batch = b"".join(queue.take())
            count = min(value, len(batch))
            stream += batch[:count]
            queue.written(count)
        else:
            packet = kind[:1].encode() + value
            sent[kind].append(packet)
            (queue.put if kind == "data" else queue.put_urgent)(packet)
    stream += drain(queue)
    packets = FrameSplitter().feed(bytes(stream))
    assert [packet for packet in packets if packet[:1] == b"d"] == sent["data"]
    assert [packet for packet in packets if packet[:1] == b"u"] == sent["urgent"]
    assert queue.pending == 0


def channel_data(payload: bytes, number: int = 0x4001) -> bytes:
    return number.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def stun_message(payload: bytes) -> bytes:
    return encode(MessageClass.INDICATION, Method.SEND, bytes(12), [data(payload)], fingerprint=False)


def padded(message: bytes) -> bytes:
    return message + bytes(-len(message) % 4)


messages_strategy = st.lists(st.binary(max_size=40).flatmap(lambda payload: st.sampled_from(
    [channel_data(payload), channel_data(payload, 0x4FFF), stun_message(payload)])), max_size=12)  # fmt: skip


@given(messages_strategy, sizes_strategy, st.booleans())
def test_any_split_of_a_server_stream_gives_the_same_messages(
    messages: list[bytes], sizes: list[int], as_view: bool
) -> None:
    splitter = ServerStreamSplitter()
    received = []
    for piece in cut(b"".join(map(padded, messages)), sizes):
        received += splitter.feed(memoryview(bytearray(piece)) if as_view else piece)
    assert received == messages
    assert splitter.detach() == b""


@given(messages_strategy, st.binary(min_size=1, max_size=40), sizes_strategy)
def test_garbage_after_messages_of_a_server_stream_is_found_in_any_split(
    messages: list[bytes], garbage: bytes, sizes: list[int]
) -> None:
    splitter = ServerStreamSplitter()
    received: list[bytes] = []
    stream = b"".join(map(padded, messages)) + b"\xff" + garbage

    def feed_all() -> None:
        for piece in cut(stream, sizes):
            received.extend(splitter.feed(piece))

    with pytest.raises(FramingError) as raised:
        feed_all()
    assert received + raised.value.messages == messages
    with pytest.raises(FramingError):
        splitter.take()


def test_channel_data_is_complete_without_its_padding() -> None:
    splitter = ServerStreamSplitter()
    assert splitter.feed(channel_data(b"five!")) == [channel_data(b"five!")]
    assert splitter.feed(b"\0") == []
    assert splitter.feed(b"\0\0" + channel_data(b"next")) == [channel_data(b"next")]


def test_empty_channel_data_is_a_message() -> None:
    assert ServerStreamSplitter().feed(channel_data(b"")) == [channel_data(b"")]


@pytest.mark.parametrize(
    "start",
    [
        b"\x50",  # a reserved channel
        b"\x80\0",  # RTP
        b"\x00\x01\x00\x02",  # a length that STUN cannot have
        b"\x00\x01\x00\x00\x22",  # no magic cookie
        b"\x16\x03\x01\x02\x00\x01\x00\x01",  # TLS
        b"POST / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_server_stream_shows_at_once(start: bytes) -> None:
    with pytest.raises(FramingError):
        ServerStreamSplitter().feed(start)


def test_channels_of_rfc_5766_are_split_if_wanted() -> None:
    splitter = ServerStreamSplitter(last_channel=0x7FFF)
    assert splitter.feed(channel_data(b"old", 0x7FFE) + b"\0") == [channel_data(b"old", 0x7FFE)]
    with pytest.raises(FramingError):
        splitter.feed(b"\x80")


def test_what_follows_the_last_message_is_handed_over() -> None:
    splitter = ServerStreamSplitter()
    splitter.append(stun_message(b"last") + b"\xffraw bytes")
    assert splitter.take() == stun_message(b"last")
    assert splitter.detach() == b"\xffraw bytes"
    assert splitter.take() is None


def test_a_server_stream_keeps_at_most_one_unfinished_message() -> None:
    splitter = ServerStreamSplitter()
    splitter.feed(b"\x40\x00\xff\xff" + bytes(65534))
    for _ in range(3):
        assert splitter.feed(b"x\0" + b"\x40\x00\xff\xff" + bytes(65534))[0][-1:] == b"x"
        assert len(splitter.detach()) == 4 + 65534
        splitter.append(b"\x40\x00\xff\xff" + bytes(65534))
