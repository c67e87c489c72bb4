"""An aiortc connection, stock or with our transport, as one end of an exchange: ``python -m interop.peers.rtc_peer``.

It speaks JSON lines on its standard streams, as `peer.js` does in other processes. The plan, its first line, has
``stack`` (``ice-tcp`` or ``aiortc``), ``transports``, ``policy``, ``offers``, and the kinds of media that it ``sends``
and ``awaits``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from fractions import Fraction
from typing import Any, Final

import aiortc
import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from candidates.policy import Policy
from ice_tcp.compat import aiortc as compat
from interop.peers.exchange import DONE, MESSAGES, checksum, message

_FRAMES: Final = 5
"""Of media, that have to come."""
_FRAME_SIZE: Final = (320, 240)


class Signal:
    """JSON lines on the standard streams."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    @classmethod
    async def open(cls) -> Signal:
        reader = asyncio.StreamReader(limit=2**20)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        return cls(reader)

    async def receive(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise EOFError("the other end of the exchange is gone")
        found: dict[str, Any] = json.loads(line)
        return found

    def send(self, **fields: Any) -> None:
        print(json.dumps(fields), flush=True)


class Picture(VideoStreamTrack):
    """A moving picture that nobody has to draw."""

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        width, height = _FRAME_SIZE
        frame = av.VideoFrame(width, height, "yuv420p")
        for number, plane in enumerate(frame.planes):
            plane.update(bytes([(pts // 1000 + 40 * number) & 0xFF]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, Fraction(time_base)
        return frame


class RtcPeer:
    """One connection and its data channel."""

    def __init__(self, signal: Signal, plan: dict[str, Any]) -> None:
        self._signal = signal
        self._plan = plan
        self._chunks: list[bytes] = []
        self._opened, self._finished, self._closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._channel: Any = None
        self._frames: dict[str, int] = {}
        self._framed = asyncio.Event()
        self._counting: list[asyncio.Task[None]] = []
        self.pc = self._connection()
        self.pc.on("track", self._count_frames)

    def _connection(self) -> Any:
        if self._plan["stack"] == "aiortc":
            return aiortc.RTCPeerConnection()
        policy = {"transports": self._plan["transports"], **self._plan.get("policy", {})}
        return compat.RTCPeerConnection(policy=Policy.model_validate(policy))

    async def run(self) -> None:
        if self._plan["offers"]:
            self._take(self.pc.createDataChannel("peers"))
            self._add_media()
            await self.pc.setLocalDescription(await self.pc.createOffer())
            self._describe()
            answer = await self._signal.receive()
            set_at = time.monotonic()
            await self.pc.setRemoteDescription(aiortc.RTCSessionDescription(answer["sdp"], answer["type"]))
        else:
            self.pc.on("datachannel", self._take)
            offer = await self._signal.receive()
            await self.pc.setRemoteDescription(aiortc.RTCSessionDescription(offer["sdp"], offer["type"]))
            self._add_media()
            await self.pc.setLocalDescription(await self.pc.createAnswer())
            self._describe()
            set_at = time.monotonic()
        await self._opened.wait()
        seconds = time.monotonic() - set_at
        for number in range(MESSAGES):
            self._channel.send(message(number))
        self._channel.send(DONE)
        await self._finished.wait()
        await self._enough_frames()
        self._signal.send(
            type="result",
            received=len(self._chunks),
            checksum=checksum(self._chunks),
            seconds=seconds,
            pair=await self._pair(),
            frames=self._frames,
        )
        if (await self._signal.receive())["type"] != "close":
            await self._closed.wait()
        await self.pc.close()
        self._signal.send(type="closed")

    async def _enough_frames(self) -> None:
        while not all(self._frames.get(kind, 0) >= _FRAMES for kind in self._plan.get("awaits", [])):
            self._framed.clear()
            await self._framed.wait()

    def _add_media(self) -> None:
        for kind in self._plan.get("sends", []):
            self.pc.addTrack(Picture() if kind == "video" else AudioStreamTrack())
        if self._plan["offers"]:
            for kind in self._plan.get("awaits", []):
                if kind not in self._plan.get("sends", []):
                    self.pc.addTransceiver(kind, direction="recvonly")

    def _describe(self) -> None:
        local = self.pc.localDescription
        self._signal.send(type=local.type, sdp=local.sdp)

    def _take(self, channel: Any) -> None:
        self._channel = channel
        channel.on("message", self._heard)
        channel.on("close", self._closed.set)
        channel.on("open", self._opened.set)
        if channel.readyState == "open":
            self._opened.set()

    def _heard(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self._finished.set()
        else:
            self._chunks.append(data)

    def _count_frames(self, track: MediaStreamTrack) -> None:
        async def count() -> None:
            while True:
                await track.recv()
                self._frames[track.kind] = self._frames.get(track.kind, 0) + 1
                self._framed.set()

        self._counting.append(asyncio.ensure_future(count()))

    async def _pair(self) -> dict[str, Any] | None:
        """As `peer.js` tells it; aiortc itself does not know."""
        report = await self.pc.getStats()
        selected = [getattr(each, "selectedCandidatePairId", None) for each in report.values()]
        pair = next((report[each] for each in selected if each is not None), None)
        if pair is None:
            return None
        return {
            end: {"candidateType": found.candidateType, "protocol": found.protocol, "tcpType": found.tcpType}
            for end, found in (
                ("local", report[pair.localCandidateId]),
                ("remote", report[pair.remoteCandidateId]),
            )
        }


async def main() -> None:
    """Be one end."""
    signal = await Signal.open()
    await RtcPeer(signal, await signal.receive()).run()


if __name__ == "__main__":
    asyncio.run(main())
