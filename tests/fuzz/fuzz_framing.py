"""RFC 4571 frames and the data path of a connection.

Invariant: however a stream is cut, the packets are the same, none is empty, and joined with their lengths they are
the stream without its empty frames and its unfinished end; a `StreamPath` fed with it raises nothing, and gives each
packet once, to STUN or to data, unless it finds a fault.
"""

from __future__ import annotations

from ice_tcp.datapath import StreamPath
from ice_tcp.framing import FrameSplitter
from ice_tcp.stun import is_stun
from tests.fuzz.harness import main

_STUN = bytes.fromhex("00010000 2112a442 000102030405060708090a0b")

SEEDS = [
    b"\x01\x00\x14" + _STUN + b"\x00\x03abc\x00\x00\x00\x14" + _STUN,
    b"\x07\x00\x03abc\x00\x14" + _STUN,
]


def check(data: bytes) -> None:
    size, stream = 1 + (data[0] if data else 0), data[1:]
    whole = FrameSplitter().feed(stream)
    splitter, path = FrameSplitter(), StreamPath(early_limit=1000, send_limit=1000)
    packets: list[bytes] = []
    stun: list[bytes] = []
    for at in range(0, len(stream), size):
        packets += splitter.feed(stream[at : at + size])
        stun += path.receive(memoryview(stream)[at : at + size]).stun
    assert packets == whole
    assert all(packets)
    framed = b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)
    empty = len(stream) - len(framed) - len(splitter.unfinished)
    assert empty >= 0
    assert empty % 2 == 0
    if path.fault is None:
        assert stun == [packet for packet in packets if is_stun(packet)]
        assert path.admit() == [packet for packet in packets if not is_stun(packet)]


if __name__ == "__main__":
    main(check, SEEDS)
