"""What comes on legs to servers, over streams and in datagrams.

Invariant: nothing raises; however a stream is cut, messages and data are the same; none is empty, and data is never
STUN; datagrams that came joined give what they give one by one.
"""

from __future__ import annotations

from ice_tcp.datapath import DatagramLegPath, LegMessage, RelayedPeers, StreamLegPath
from ice_tcp.stun import is_stun
from tests.fuzz.harness import main

_STUN = bytes.fromhex("01010000 2112a442 000102030405060708090a0b")
_DATA = b"\x40\x00\x00\x05hello\0\0\0"

SEEDS = [
    b"\x03" + _STUN + _DATA + _DATA + b"\x40\x00\x00\x14" + _STUN + b"\x4f\xff\x00\x01x\0\0\0",
    b"\x0c" + _DATA + b"\x40\x01\x00\x05other\0\0\0" + _DATA[:9],
]


def bound(peers: RelayedPeers) -> None:
    for number in range(2):
        peers.bind(("192.0.2.7", number), 0x4000 + number)
        peers.admit(("192.0.2.7", number))


def from_stream(stream: bytes, size: int) -> tuple[list[LegMessage], list[bytes]]:
    path = StreamLegPath(early_limit=1000, send_limit=1000, transaction_id=lambda: bytes(12))
    bound(path.peers)
    messages: list[LegMessage] = []
    data: list[bytes] = []
    for at in range(0, len(stream), size):
        if path.fault is not None:
            break
        data += path.receive(stream[at : at + size]).data
        while path.messages:
            messages += path.messages
            data += path.resume()
    return messages, data


def from_datagrams(datagrams: list[bytes], step: int) -> tuple[list[LegMessage], list[bytes]]:
    path = DatagramLegPath(early_limit=1000, transaction_id=lambda: bytes(12))
    bound(path.peers)
    messages: list[LegMessage] = []
    data: list[bytes] = []
    for at in range(0, len(datagrams), step):
        received = path.receive(datagrams[at : at + step])
        messages += received.messages
        data += received.data
    return messages, data


def check(data: bytes) -> None:
    size, rest = 1 + (data[0] if data else 0), data[1:]
    messages, found = from_stream(rest, size)
    assert (messages, found) == from_stream(rest, len(rest) or 1)
    datagrams = [rest[at : at + size] for at in range(0, len(rest), size)]
    joined, single = from_datagrams(datagrams, len(datagrams) or 1), from_datagrams(datagrams, 1)
    assert joined == single
    assert all(found + joined[1])
    assert not any(map(is_stun, found + joined[1]))
    assert all(is_stun(each.message) for each in messages + joined[0] if each.peer is not None)


if __name__ == "__main__":
    main(check, SEEDS)
