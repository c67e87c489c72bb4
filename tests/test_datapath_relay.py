from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ice_tcp.datapath import (
    MAX_RELAYED_BYTES,
    STUN_QUEUE_BYTES,
    Address,
    DatagramLegPath,
    LegMessage,
    RelayedPeers,
    StreamFault,
    StreamLegPath,
)
from ice_tcp.net.datagrams import MAX_DATAGRAM_BYTES
from ice_tcp.stun import MessageClass, Method, decode, is_stun
from tests.test_datapath import LOOKALIKES, stun
from tests.test_framing import cut, sizes_strategy

PEER, OTHER, PEER6 = ("192.0.2.7", 4000), ("192.0.2.8", 4000), ("2001:db8::7", 4000)
CHANNEL, OTHER_CHANNEL, UNKNOWN_CHANNEL = 0x4000, 0x4001, 0x4FFF
TRANSACTION_ID = b"random bytes"


def channel_data(data: bytes, channel: int = CHANNEL, *, padded: bool = False) -> bytes:
    padding = bytes(-len(data) % 4) if padded else b""
    return channel.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data + padding


def datagram_leg(early_limit: int = 1000) -> DatagramLegPath:
    return DatagramLegPath(early_limit=early_limit, transaction_id=lambda: TRANSACTION_ID)


def stream_leg(early_limit: int = 1000, send_limit: int = 1000) -> StreamLegPath:
    return StreamLegPath(early_limit=early_limit, send_limit=send_limit, transaction_id=lambda: TRANSACTION_ID)


def bound(peers: RelayedPeers) -> RelayedPeers:
    """With two peers that have channels, and are admitted."""
    for address, channel in ((PEER, CHANNEL), (OTHER, OTHER_CHANNEL)):
        peers.bind(address, channel)
        peers.admit(address)
    return peers


def received(peers: RelayedPeers, address: Address) -> tuple[int, int]:
    peer = peers.admitted(address)
    assert peer is not None
    return peer.traffic.packets_received, peer.traffic.bytes_received


# Outbound


def wrapped(data: bytes, address: Address = PEER, channel: int | None = None, *, reliable: bool = False) -> bytes:
    path = stream_leg() if reliable else datagram_leg()
    path.peers.bind(address, channel)
    path.peers.admit(address)
    peer = path.peers.admitted(address)
    assert peer is not None
    return peer.wrap(data)


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("address", [PEER, PEER6])
def test_without_a_channel_data_goes_in_a_send_indication(address: Address, reliable: bool) -> None:
    message = decode(wrapped(b"hello", address, reliable=reliable))
    assert (message.message_class, message.method) == (MessageClass.INDICATION, Method.SEND)
    assert message.transaction_id == TRANSACTION_ID
    assert message.xor_peer_address == address
    assert message.data == b"hello"
    assert len(message.attributes) == 2, "nothing else is needed"


def test_channel_data_is_padded_over_streams_only() -> None:
    assert wrapped(b"hello", channel=CHANNEL) == channel_data(b"hello")
    for size in range(9):
        assert wrapped(bytes(size), channel=CHANNEL, reliable=True) == channel_data(bytes(size), padded=True)


def test_messages_of_changing_sizes_and_channels_have_the_right_headers() -> None:
    peers = bound(datagram_leg().peers)
    peer = peers.admitted(PEER)
    assert peer is not None
    for size in (5, 5, 0, 1200, 1200, 5):
        assert peer.wrap(bytes(size)) == channel_data(bytes(size))
    peers.bind(PEER, None)
    assert is_stun(peer.wrap(bytes(5)))
    peers.bind(PEER, UNKNOWN_CHANNEL)
    assert peer.wrap(bytes(5)) == channel_data(bytes(5), UNKNOWN_CHANNEL)


@pytest.mark.parametrize("channel", [CHANNEL, None])
def test_the_longest_message_fits_a_datagram_with_channel_and_without(channel: int | None) -> None:
    assert len(wrapped(bytes(MAX_RELAYED_BYTES), PEER6, channel)) <= MAX_DATAGRAM_BYTES
    with pytest.raises(ValueError, match="65437 bytes cannot be relayed"):
        wrapped(bytes(MAX_RELAYED_BYTES + 1), PEER6, channel)


# Datagrams


def test_messages_of_the_server_go_to_the_core() -> None:
    path = datagram_leg()
    assert path.receive([stun(b"abcd")]) == ([LegMessage(None, stun(b"abcd"))], [])


def test_channel_data_is_data_of_the_peer_and_stun_in_it_is_the_peers() -> None:
    path = datagram_leg()
    bound(path.peers)
    assert path.receive([channel_data(b"data")]) == ([], [b"data"])
    assert path.receive([channel_data(stun(), OTHER_CHANNEL)]) == ([LegMessage(OTHER, stun())], [])
    assert received(path.peers, PEER) == (1, 4)
    assert received(path.peers, OTHER) == (0, 0)


@pytest.mark.parametrize("packet", [packet for packet in LOOKALIKES if packet])
def test_relayed_datagrams_that_resemble_stun_are_data(packet: bytes) -> None:
    path = datagram_leg()
    bound(path.peers)
    assert path.receive([channel_data(packet)]) == ([], [packet])


def test_channel_data_of_an_unknown_channel_goes_to_the_core() -> None:
    message = channel_data(b"data", UNKNOWN_CHANNEL)
    assert datagram_leg().receive([message]) == ([LegMessage(None, message)], [])
    path = datagram_leg()
    bound(path.peers)
    path.peers.bind(PEER, None)
    assert path.receive([channel_data(b"data")]) == ([LegMessage(None, channel_data(b"data"))], [])


def test_padded_channel_data_is_taken_without_its_padding() -> None:
    path = datagram_leg()
    bound(path.peers)
    assert path.receive_one(channel_data(b"hello", padded=True)) is None
    assert path.receive([channel_data(b"hello", padded=True)]) == ([], [b"hello"])


@pytest.mark.parametrize("channel", [CHANNEL, UNKNOWN_CHANNEL])
def test_datagrams_that_are_cut_short_or_nothing_are_dropped(channel: int) -> None:
    path = datagram_leg()
    bound(path.peers)
    whole = channel_data(b"hello", channel)
    for end in range(len(whole)):
        assert path.receive([whole[:end]]) == ([], []), end
        assert path.receive_one(whole[:end]) is None
    assert path.receive([b"HTTP/1.1 400 Bad Request\r\n"]) == ([], [])
    assert path.receive([b"\x80 RTP"]) == ([], [])
    assert path.receive([stun(b"abcd")[:-1]]) == ([], [])


def test_empty_channel_data_vanishes() -> None:
    path = datagram_leg()
    bound(path.peers)
    assert path.receive([channel_data(b"")]) == ([], [])
    assert path.receive_one(channel_data(b"")) is None
    assert path.peers.deliver(PEER, b"") == []
    assert received(path.peers, PEER) == (0, 0)


def test_the_short_way_takes_data_of_admitted_peers_only() -> None:
    path = datagram_leg()
    path.peers.bind(PEER, CHANNEL)
    assert path.receive_one(channel_data(b"data")) is None
    path.peers.admit(PEER)
    assert path.receive_one(channel_data(b"data")) == b"data"
    assert path.receive_one(channel_data(stun())) is None
    assert path.receive_one(stun()) is None
    assert path.receive_one(channel_data(b"data", UNKNOWN_CHANNEL)) is None
    assert received(path.peers, PEER) == (1, 4)


@given(
    st.lists(
        st.tuples(st.sampled_from([CHANNEL, OTHER_CHANNEL, UNKNOWN_CHANNEL, None]), st.integers(0, 24)), max_size=20
    ),
    st.integers(0, 28),
    st.booleans(),
)
def test_joined_datagrams_are_as_single_ones(parts: list[tuple[int | None, int]], last: int, padded: bool) -> None:
    def datagram(channel: int | None, size: int) -> bytes:
        message = stun(bytes(4)) if channel is None else channel_data(bytes(size), channel, padded=padded)
        return message.ljust(28, b"\xff")  # what comes behind is no part of it

    datagrams = [datagram(channel, size) for channel, size in parts]
    datagrams.append(datagram(CHANNEL, 24)[:last])
    joined, single = datagram_leg(), datagram_leg()
    bound(joined.peers)
    bound(single.peers)
    messages, data = [], []
    for each in datagrams:
        got = single.receive([each])
        messages += got.messages
        data += got.data
    assert joined.receive(datagrams) == (messages, data)
    assert received(joined.peers, PEER) == received(single.peers, PEER)


# Admission


def test_data_of_a_peer_waits_for_its_admission_whatever_way_it_came() -> None:
    path = datagram_leg()
    path.peers.bind(PEER, CHANNEL)
    assert path.receive([channel_data(b"one")]) == ([], [])
    assert path.peers.deliver(PEER, b"two") == []
    assert path.peers.deliver(OTHER, b"not this") == []
    assert path.peers.admitted(PEER) is None
    assert path.peers.admit(PEER) == [b"one", b"two"]
    assert path.peers.deliver(PEER, b"three") == [b"three"]
    assert path.peers.admit(PEER) == []
    assert received(path.peers, PEER) == (3, 11)


def test_data_of_peers_that_are_not_admitted_is_bounded_and_counted() -> None:
    path = datagram_leg(early_limit=10)
    path.peers.bind(PEER, CHANNEL)
    for number in range(10):
        path.receive([channel_data(b"%04d" % number)])
    assert path.peers.discarded == 8
    assert path.peers.admit(PEER) == [b"0008", b"0009"]


def test_a_peer_of_two_bindings_is_one_peer() -> None:
    peers = bound(datagram_leg().peers)
    peers.deliver(PEER, b"before")
    peers.bind(PEER, UNKNOWN_CHANNEL)
    assert CHANNEL.to_bytes(2, "big") not in peers.channels
    peers.bind(PEER, UNKNOWN_CHANNEL)
    assert UNKNOWN_CHANNEL.to_bytes(2, "big") in peers.channels
    assert received(peers, PEER) == (1, 6)


# Streams


def take_all(path: StreamLegPath, data: list[bytes]) -> Iterator[LegMessage | bytes]:
    """What a chunk gave, in order: data, then messages, with all that stood behind them."""
    yield from data
    while path.messages:
        yield from path.messages
        yield from path.resume()


part_strategy = st.sampled_from(
    [
        channel_data(b"data", padded=True),
        channel_data(b"longer data", padded=True),
        channel_data(b"", padded=True),
        channel_data(b"more", OTHER_CHANNEL, padded=True),
        channel_data(b"hmm", UNKNOWN_CHANNEL, padded=True),
        channel_data(stun(bytes(4)), padded=True),
        stun(),
        stun(bytes(8)),
    ]
)


@given(st.lists(part_strategy, max_size=12), sizes_strategy)
def test_any_split_of_a_servers_stream_gives_the_same(parts: list[bytes], sizes: list[int]) -> None:
    parts = [stun(), *parts]
    path, whole = stream_leg(), stream_leg()
    bound(path.peers)
    bound(whole.peers)
    got: list[LegMessage | bytes] = []
    for piece in cut(b"".join(parts), sizes):
        got += take_all(path, path.receive(piece).data)
        assert path.fault is None
    expected: list[LegMessage | bytes] = []
    for part in parts:
        expected += take_all(whole, whole.receive(part).data)
    assert [each for each in got if isinstance(each, bytes)] == [each for each in expected if isinstance(each, bytes)]
    assert [each for each in got if not isinstance(each, bytes)] == [
        each for each in expected if not isinstance(each, bytes)
    ]
    assert received(path.peers, PEER) == received(whole.peers, PEER)


def test_nothing_is_split_off_behind_a_message_of_the_server() -> None:
    path = stream_leg()
    bound(path.peers)
    path.receive(stun() + channel_data(b"data") + stun(b"last") + b"what is")
    assert path.messages == [LegMessage(None, stun())]
    assert path.resume() == [b"data"]
    assert path.messages == [LegMessage(None, stun(b"last"))]
    assert path.receive(b" this?").data == [], "it waits"
    assert path.detach() == b"what is this?"


def test_the_short_way_of_streams_takes_single_whole_messages_only() -> None:
    path = stream_leg()
    bound(path.peers)
    path.receive(stun())
    message = channel_data(b"hello", padded=True)
    view = memoryview(message + bytes(100))
    assert path.receive_one(view, len(message)) is None, "the core has not heard the message before"
    path.resume()
    assert path.receive_one(view, len(message)) == b"hello"
    assert path.receive_one(view, len(message) - 1) is None
    assert path.receive_one(view, len(message) + 1) is None
    assert path.receive_one(memoryview(channel_data(stun())), 24) is None
    assert path.receive(message[:7]) == ([], [])
    assert path.receive_one(view, len(message)) is None, "it is the middle of another"
    assert path.receive(message[7:]) == ([], [b"hello"])
    path.peers.bind(PEER, None)
    assert path.receive_one(view, len(message)) is None
    assert received(path.peers, PEER) == (2, 10)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request", b"SSH-2.0-OpenSSH", channel_data(b"data"), b"\x80"])
def test_a_server_must_begin_with_stun(greeting: bytes) -> None:
    path = stream_leg()
    bound(path.peers)
    assert path.receive(greeting[:1]) == ([], [])
    assert path.fault is StreamFault.NOT_STUN
    assert path.receive(greeting[1:]) == ([], [])
    assert not path.messages


def test_messages_before_a_fault_are_handed_over_first() -> None:
    path = stream_leg()
    bound(path.peers)
    path.receive(stun() + channel_data(b"data") + stun(b"abcd") + b"\x00\x01 no cookie")
    assert path.fault is None
    assert path.resume() == [b"data"]
    assert path.fault is None
    assert path.messages == [LegMessage(None, stun(b"abcd"))]
    assert path.resume() == []
    assert path.fault is StreamFault.NOT_STUN


def test_messages_to_the_server_overtake_data_at_message_boundaries() -> None:
    path = stream_leg()
    one, two = channel_data(b"one1"), channel_data(b"two2")
    assert path.send_data(one)
    assert path.send_data(two)
    path.take()
    path.written(3)
    assert path.send_stun(stun())
    assert b"".join(path.take()) == one[3:] + stun() + two
    path.written(len(one) - 3 + len(stun() + two))
    assert path.pending == 0


def test_what_waits_for_a_server_is_bounded() -> None:
    path = stream_leg(send_limit=100)
    assert path.send_data(bytes(100)) == 100
    assert path.is_full
    assert path.send_data(bytes(4)) == 0
    while path.send_stun(stun(bytes(1000))):
        pass
    assert STUN_QUEUE_BYTES <= path.urgent_pending < STUN_QUEUE_BYTES + 1020
