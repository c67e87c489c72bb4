"""The examples that people copy do what they say, run as people run them."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import aiortc
import pytest
from aiohttp import ClientSession, web
from aiortc.contrib.media import MediaBlackhole
from aiortc.mediastreams import VideoStreamTrack

from ice_tcp.compat.aiortc import RTCIceTransportStats, RTCPeerConnection, RTCSessionDescription
from tests.agents import policy
from tests.peer_connections import NO_SERVERS, Messages, run

EXAMPLES: Final = Path(__file__).parent.parent / "docs" / "examples"
LOOPBACK: Final = "interfaces: {loopback: true}"
TCP_ONLY: Final = f"transports: [tcp]\n{LOOPBACK}"


async def start(name: str, *arguments: str | Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def finish(process: Process) -> str:
    """What it printed. It has to succeed."""
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.fixture
def policy_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(getattr(request, "param", TCP_ONLY), "utf-8")
    return file


@pytest.mark.parametrize("policy_file", [LOOPBACK, TCP_ONLY], indirect=True)
def test_what_was_written_for_aioice_says_hello(policy_file: Path) -> None:
    async def hello() -> str:
        return await finish(await start("aioice_hello.py", policy_file))

    assert asyncio.run(hello()) == "b'hello'\n"


@pytest.mark.parametrize(("policy_file", "transport"), [(LOOPBACK, "udp"), (TCP_ONLY, "tcp")], indirect=["policy_file"])
def test_what_was_written_for_aiortc_says_hello_and_over_what(policy_file: Path, transport: str) -> None:
    async def echo() -> str:
        return await finish(await start("aiortc_echo.py", policy_file))

    assert asyncio.run(echo()) == f"hello\nover {transport} direct\n"


class Transfer:
    """Both sides of `send_file.py`, whose lines are carried by hand."""

    def __init__(self, policy_file: Path, file: Path, into: Path) -> None:
        self._options = ("--policy", policy_file)
        self._file, self._into = file, into

    async def run(self) -> tuple[Process, Process]:
        sender = await start("send_file.py", *self._options, "send", self._file)
        receiver = await start("send_file.py", *self._options, "receive", "--into", self._into)
        await self.carry(sender, receiver)
        await receiver.stdout.readline()  # type: ignore[union-attr] # it asks for the line
        await self.carry(receiver, sender)
        return sender, receiver

    @staticmethod
    async def carry(one: Process, other: Process) -> None:
        assert one.stdout is not None and other.stdin is not None
        other.stdin.write(await one.stdout.readline())


def test_a_file_goes_to_another_host(policy_file: Path, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    file, into = tmp_path / "numbers.bin", tmp_path / "into"
    file.write_bytes(data)
    into.mkdir()

    async def transfer() -> list[str]:
        return [await finish(each) for each in await Transfer(policy_file, file, into).run()]

    sent, received = asyncio.run(transfer())
    digest = hashlib.sha256(data).hexdigest()
    assert sent.endswith(f"sent numbers.bin, SHA-256 {digest}\n")
    assert received == f"received numbers.bin, {len(data)} bytes, SHA-256 {digest}\n"
    assert (into / "numbers.bin").read_bytes() == data


def test_a_file_that_is_there_already_is_not_overwritten(policy_file: Path, tmp_path: Path) -> None:
    file, into = tmp_path / "precious", tmp_path / "into"
    file.write_bytes(b"new")
    into.mkdir()
    (into / "precious").write_bytes(b"old")

    async def transfer() -> tuple[int | None, bytes]:
        sender, receiver = await Transfer(policy_file, file, into).run()
        await sender.communicate()
        _, errors = await receiver.communicate()
        return receiver.returncode, errors

    status, errors = asyncio.run(transfer())
    assert status == 1
    assert errors.startswith(b"error: [Errno 17] File exists")
    assert (into / "precious").read_bytes() == b"old"


@pytest.mark.parametrize("line", ["", "hello", "aGVsbG8="])
def test_a_line_that_is_none_is_refused(policy_file: Path, line: str) -> None:
    async def receive() -> tuple[int | None, bytes]:
        receiver = await start("send_file.py", "--policy", policy_file, "receive")
        _, errors = await receiver.communicate(f"{line}\n".encode())
        return receiver.returncode, errors

    status, errors = asyncio.run(receive())
    assert status == 1
    assert errors.startswith(b"error: ") and b"Traceback" not in errors


def video_chat() -> ModuleType:
    spec = importlib.util.spec_from_file_location("video_chat", EXAMPLES / "video_chat" / "server.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def serve(chat: ModuleType) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(chat.VideoChat(policy("")).application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def join(url: str, client: ClientSession, *, tcp_only: bool) -> tuple[RTCPeerConnection, aiortc.RTCDataChannel]:
    """As the page does: a channel, a picture to send, an offer."""
    connection = RTCPeerConnection(NO_SERVERS, policy=policy(""))
    channel = connection.createDataChannel("chat")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    connection.addTrack(VideoStreamTrack())
    await connection.setLocalDescription(await connection.createOffer())
    offer = connection.localDescription
    body = {"sdp": offer.sdp, "type": offer.type, "tcpOnly": tcp_only}
    async with client.post(f"{url}/offer", json=body) as response:
        assert response.status == 200
        await connection.setRemoteDescription(RTCSessionDescription(**await response.json()))
    await opened.wait()
    return connection, channel


async def protocol_of(connection: RTCPeerConnection) -> str | None:
    report = await connection.getStats()
    return next(each.protocol for each in report.values() if isinstance(each, RTCIceTransportStats))


def test_the_chat_reaches_every_page_over_what_it_asked_for_and_the_video_comes_back() -> None:
    async def chat() -> None:
        runner, url = await serve(video_chat())
        async with ClientSession() as client:
            alice, line = await join(url, client, tcp_only=True)
            bob, heard = await join(url, client, tcp_only=False)
            messages = Messages(heard)
            line.send("hello")
            assert await messages.next() == "hello"
            assert (await protocol_of(alice), await protocol_of(bob)) == ("tcp", "udp")
            (receiver,) = (each.receiver for each in alice.getTransceivers())
            await receiver.track.recv()
            sink = MediaBlackhole()
            sink.addTrack(receiver.track)
            await sink.start()
            await sink.stop()
        await alice.close()
        await bob.close()
        await runner.cleanup()

    run(chat())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"sdp": "", "type": "nonsense", "tcpOnly": false}', b"\xff"])
def test_what_is_no_offer_is_refused(body: bytes) -> None:
    async def refuse() -> None:
        runner, url = await serve(video_chat())
        async with ClientSession() as client, client.post(f"{url}/offer", data=body) as response:
            assert response.status == 400
            assert (await response.text()).startswith("this is no offer")
        await runner.cleanup()

    run(refuse())


@pytest.mark.interop
@pytest.mark.parametrize(("video", "transport", "path"), [("drawn", "tcp", "over TCP"), ("camera", "any", "over UDP")])
def test_a_person_sees_and_says_something_on_the_page(
    lone_host: str, tmp_path: Path, video: str, transport: str, path: str
) -> None:
    async def main() -> dict[str, Any]:
        there = ("ip", "netns", "exec", lone_host, sys.executable)
        server = await asyncio.create_subprocess_exec(*there, EXAMPLES / "video_chat" / "server.py", stdout=PIPE)
        try:
            assert server.stdout is not None
            await server.stdout.readline()  # it says where it is
            page = ("-m", "tests.video_chat_page", "http://localhost:8080", video, transport)
            environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent.parent)}
            browser = await asyncio.create_subprocess_exec(
                *there, *page, stdout=PIPE, stderr=PIPE, cwd=tmp_path, env=environment
            )
            state: dict[str, Any] = json.loads(await finish(browser))
            return state
        finally:
            server.send_signal(signal.SIGINT)
            await server.communicate()

    state = asyncio.run(main())
    assert state["pair"].startswith(path)
    assert state["log"] == ["hello from the page"]
    assert state["frames"] > 5
