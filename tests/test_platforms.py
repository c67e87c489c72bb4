"""Systems that have less than Linux: what they lack is taken away, and what `docs/platforms.md` says then holds."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from unittest.mock import Mock

import pytest

from candidates.candidate import TcpType
from candidates.policy import Policy
from ice_tcp.driver import pump
from ice_tcp.net import platform
from ice_tcp.operation import Following, catch_signals

DOCUMENT: Final = (Path(__file__).parent.parent / "docs" / "platforms.md").read_text("utf-8")

LACKS: Final = {
    "macos": ("socket.TCP_USER_TIMEOUT", "socket.TCP_KEEPIDLE"),
    "bsd": ("socket.TCP_USER_TIMEOUT",),
    "windows": (
        *("socket.SO_REUSEPORT", "socket.TCP_USER_TIMEOUT", "socket.TCP_NOTSENT_LOWAT", "socket.TCP_KEEPIDLE"),
        *("socket.TCP_KEEPINTVL", "socket.TCP_KEEPCNT", "os.O_NONBLOCK", "os.O_CLOEXEC", "os.O_NOFOLLOW", "os.fchmod"),
        *("signal.SIGHUP",),
    ),
}
"""What their Pythons do not have of what is used here."""

SESSION: Final = """
import asyncio, logging, os, signal, socket, sys
for name in sys.argv[1].split(","):
    module, _, attribute = name.partition(".")
    if hasattr(globals()[module], attribute):
        delattr(globals()[module], attribute)
import ice_tcp.net.precise
ice_tcp.net.precise.precise_timers = lambda loop: None
import ice_tcp.cli, ice_tcp.server, ice_tcp.meeting, ice_tcp.rendezvous, ice_tcp.capsule
from ice_tcp import Agent, Capsule, Policy, Role

logging.basicConfig(format="%(message)s")
policy = Policy.default().revised(
    transports=[sys.argv[2]], interfaces={"loopback": True, "include": ["lo"]}, address_families=["ipv4"]
)

async def tell(agent, peer):
    peer.set_remote_parameters(agent.local_parameters)
    async for candidate in agent.local_candidates():
        peer.add_remote_candidate(candidate)
    peer.end_of_candidates()

async def main():
    with Capsule.create(sys.argv[3]) as capsule:
        one = Agent(Role.CONTROLLING, policy=policy, capsule=capsule)
        two = Agent(Role.CONTROLLED, policy=policy)
        async with one, two:
            await asyncio.gather(one.gather(), two.gather(), tell(one, two), tell(two, one))
            await asyncio.gather(one.connect(), two.connect())
            path = await one.nominated()
            await one.send(b"hello")
            has_so = "so" in [each.tcptype async for each in one.local_candidates()]
            print((await two.recv()).decode(), path.local.transport, has_so)

asyncio.run(main())
"""


def session(lacking: str, transport: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SESSION, ",".join(LACKS[lacking]), transport, str(directory / "f.capsule")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: S603 - our own program


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("lacking", LACKS)
def test_agents_connect_with_what_there_is(lacking: str, transport: str, tmp_path: Path) -> None:
    done = session(lacking, transport, tmp_path)
    assert done.returncode == 0, done.stderr
    has_so = transport == "tcp" and lacking != "windows"
    assert done.stdout == f"hello {transport} {has_so}\n"
    said = "simultaneous-open candidates are left out: this system cannot share a port (SO_REUSEPORT)\n"
    assert done.stderr == (2 * said if lacking == "windows" and transport == "tcp" else "")
    assert said.strip() in DOCUMENT


def test_with_nothing_but_so_it_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "CAN_SHARE_PORTS", False)
    only = Policy.default().revised(transports=["tcp"], tcp_types=["so"])
    with pytest.raises(RuntimeError, match="cannot share a port") as raised:
        pump.possible(only)
    assert str(raised.value) in DOCUMENT
    assert TcpType.SO not in pump.possible(Policy.default()).tcp_types


def test_an_event_loop_that_cannot_watch_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    try:
        platform.check_loop(loop)
        monkeypatch.setattr(asyncio, "ProactorEventLoop", type(loop), raising=False)
        with pytest.raises(RuntimeError, match="SelectorEventLoop") as raised:
            platform.check_loop(loop)
    finally:
        loop.close()
    assert re.sub(r"\s+", " ", str(raised.value)) in re.sub(r"\s+", " ", DOCUMENT)


def test_signals_are_caught_where_loops_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = {}

    async def body() -> bool:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "add_signal_handler", Mock(side_effect=NotImplementedError))
        monkeypatch.setattr("signal.signal", lambda number, act: caught.update({number.name: act}))
        following = Following(None)
        stopped = catch_signals(following)
        caught["SIGHUP"](1, None)
        await asyncio.wait_for(following.asked.wait(), 10)
        assert not stopped.is_set()
        caught["SIGTERM"](15, None)
        return await asyncio.wait_for(stopped.wait(), 10)

    assert asyncio.run(body())
    assert set(caught) == {"SIGINT", "SIGTERM", "SIGHUP"}
