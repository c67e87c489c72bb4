"""What other implementations send on their first TCP connection, as it was recorded, and what we make of it.

`tests/recordings` has, for each, the credentials of both sides and the packets that it sent, without their frames: from
a cell of ``python -m interop peers`` in which it controlled. Here they are all sent before anything is answered, in
pieces: requests that are repeated, with USE-CANDIDATE in the first, padded with what there was, and application data
before we have a path.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from candidates.parameters import IceParameters
from ice_tcp import Agent, Role, stun
from tests.agents import policy
from tests.loops import run

RECORDINGS: Final = sorted(Path(__file__).with_name("recordings").glob("*.json"))
PASSIVE: Final = "transports: [tcp]\ntcp_types: [passive]\n"
SPLITS: Final = {
    "at once": (2**16,),
    "after each length": (2, 2**16),
    "within the first length": (1, 2**16),
    "byte by byte": (1,) * 400,
}
"""Sizes of the first pieces; what is left follows in one."""


@dataclass(frozen=True, slots=True)
class Recording:
    """``packets`` came from the peer, in this order."""

    ours: IceParameters
    theirs: IceParameters
    packets: tuple[bytes, ...]

    @classmethod
    def read(cls, file: Path) -> Recording:
        found = json.loads(file.read_text("utf-8"))
        ours, theirs = (IceParameters(found[side]["ufrag"], found[side]["pwd"]) for side in ("ours", "theirs"))
        return cls(ours, theirs, tuple(map(bytes.fromhex, found["packets"])))

    @property
    def requests(self) -> list[stun.Message]:
        found = [stun.decode(packet) for packet in self.packets if stun.is_stun(packet)]
        return [each for each in found if each.message_class is stun.MessageClass.REQUEST]

    @property
    def data(self) -> list[bytes]:
        return [packet for packet in self.packets if not stun.is_stun(packet)]

    def pieces(self, sizes: tuple[int, ...]) -> Iterator[bytes]:
        """The stream, cut; with "after each length", every frame is."""
        if sizes == SPLITS["after each length"]:
            for packet in self.packets:
                yield from (frame(packet)[:2], packet)
            return
        stream = b"".join(map(frame, self.packets))
        for size in sizes:
            yield stream[:size]
            stream = stream[size:]
        yield stream


def frame(packet: bytes) -> bytes:
    """RFC 4571 s2."""
    return len(packet).to_bytes(2, "big") + packet


async def receive(reader: asyncio.StreamReader) -> stun.Message:
    return stun.decode(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))


def answer_to(request: stun.Message, source: tuple[str, int], key: stun.IntegrityKey) -> bytes:
    """The peer's success response."""
    mapped = stun.xor_mapped_address(*source, request.transaction_id)
    kind = (stun.MessageClass.SUCCESS, stun.Method.BINDING, request.transaction_id)
    return stun.encode(*kind, [mapped], key=key, fingerprint=True)


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.stem)
def test_a_recorded_peer_is_answered_nominated_and_heard(file: Path, sizes: tuple[int, ...]) -> None:
    recording = Recording.read(file)
    ours, theirs = (stun.IntegrityKey.short_term(each.pwd) for each in (recording.ours, recording.theirs))

    async def main() -> None:
        credentials = (recording.ours.ufrag, recording.ours.pwd)
        async with Agent(Role.CONTROLLED, policy=policy(PASSIVE), credentials=credentials) as agent:
            await agent.gather()
            (candidate,) = [each async for each in agent.local_candidates()]
            agent.set_remote_parameters(recording.theirs)
            connecting = asyncio.create_task(agent.connect())
            reader, writer = await asyncio.open_connection(candidate.address.host, candidate.address.port)
            for piece in recording.pieces(sizes):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            answered: set[bytes] = set()
            while len(answered) < len(recording.requests) or not connecting.done():
                message = await receive(reader)
                if message.message_class is stun.MessageClass.SUCCESS:
                    assert message.verify(ours)
                    answered.add(message.transaction_id)
                    continue
                assert message.username == f"{recording.theirs.ufrag}:{recording.ours.ufrag}"
                assert message.verify(theirs)
                writer.write(frame(answer_to(message, writer.get_extra_info("peername"), theirs)))
                await asyncio.wait([connecting])
            assert answered == {request.transaction_id for request in recording.requests}
            path = await agent.nominated()
            assert path.local == candidate
            assert [await agent.recv() for _ in recording.data] == recording.data
            writer.close()

    run(main())


def test_the_recordings_have_what_they_are_for() -> None:
    recordings = {file.stem: Recording.read(file) for file in RECORDINGS}
    assert set(recordings) == {"chromium", "firefox", "firefox-so", "libnice", "node"}
    for name, recording in recordings.items():
        first = recording.requests[0]
        assert first.verify(stun.IntegrityKey.short_term(recording.ours.pwd)), name
        assert recording.data, name
        assert first.use_candidate is (name != "libnice"), name
    assert len(recordings["firefox-so"].requests) == len(recordings["libnice"].requests) - 1 == 2
    assert b"NBBxiNWA:YFB5   " in recordings["libnice"].packets[0]  # padded with spaces (RFC 8489 s14)
