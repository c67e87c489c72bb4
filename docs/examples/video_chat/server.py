"""A page with video and a chat, and the server at its other end: aiortc, over UDP or, when the page says so, over TCP.

    pip install 'ice-tcp[aiortc]' aiohttp
    python server.py            # then open http://localhost:8080

The page's video, of a camera or drawn, comes back to it; what is typed into the chat goes to every page. Browsers let a
page use a camera only from localhost or over HTTPS.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from aiohttp import web
from aiortc.contrib.media import MediaRelay

from ice_tcp import Policy, read_policy
from ice_tcp.compat.aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)

PAGE = Path(__file__).with_name("index.html")


class VideoChat:
    """All pages that are connected."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._relay = MediaRelay()
        self._connections: set[RTCPeerConnection] = set()
        self._channels: set[RTCDataChannel] = set()

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes([web.get("/", self.page), web.post("/offer", self.offer)])
        application.on_shutdown.append(self.close)
        return application

    async def page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def offer(self, request: web.Request) -> web.Response:
        """Answer a page: ``{"sdp": ..., "type": "offer", "tcpOnly": bool}``."""
        try:
            asked = await request.json()
            description = RTCSessionDescription(sdp=asked["sdp"], type=asked["type"])
            connection = self._connection(tcp_only=asked["tcpOnly"])
            await connection.setRemoteDescription(description)
        except (KeyError, TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=f"this is no offer: {error!r}") from None
        await connection.setLocalDescription(await connection.createAnswer())
        answer = connection.localDescription
        return web.json_response({"sdp": answer.sdp, "type": answer.type})

    def _connection(self, *, tcp_only: bool) -> RTCPeerConnection:
        policy = self._policy.revised(transports=["tcp"]) if tcp_only else self._policy
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]), policy=policy)
        self._connections.add(connection)

        @connection.on("track")
        def send_back(track: MediaStreamTrack) -> None:
            connection.addTrack(self._relay.subscribe(track))

        @connection.on("datachannel")
        def join(channel: RTCDataChannel) -> None:
            self._channels.add(channel)
            channel.on("message", self._tell_all)
            channel.on("close", lambda: self._channels.discard(channel))

        @connection.on("connectionstatechange")
        async def forget() -> None:
            if connection.connectionState in ("failed", "closed"):
                self._connections.discard(connection)
                await connection.close()

        return connection

    def _tell_all(self, text: str) -> None:
        for channel in self._channels:
            if channel.readyState == "open":
                channel.send(text)

    async def close(self, _application: web.Application) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections))


def main() -> None:
    parser = argparse.ArgumentParser(description="Video and a chat with browsers, over UDP or TCP.")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--policy", type=Path, help="a policy file, for ports, interfaces, servers")
    options = parser.parse_args()
    policy = read_policy(options.policy) if options.policy else Policy.default()
    web.run_app(VideoChat(policy).application(), host=options.host, port=options.port, access_log=None)


if __name__ == "__main__":
    main()
