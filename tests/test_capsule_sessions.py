"""Sessions over real sockets, recorded and replayed: relays over UDP and TCP, a restart, two agents of one process."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from candidates.policy import Policy
from ice_tcp import Agent, Capsule, EventStream, Role
from ice_tcp.cli import main
from ice_tcp.core.agent import Agent as Core
from ice_tcp.driver import open_session
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions
from tests.agents import exchange, policy, signal
from tests.capsules import names, replayed
from tests.loops import Runner, on_loop, run
from tests.test_meeting_command import code_of, start

__all__ = ["on_loop"]

HOST = "127.0.0.1"
PAYLOAD = b"what the application says stays outside"


async def session(alice: Agent, bob: Agent) -> None:
    """Connect, talk, restart, talk."""
    await signal(alice, bob)
    await asyncio.gather(alice.connect(), bob.connect())
    await asyncio.gather(alice.nominated(), bob.nominated())
    await talk(alice, bob)
    streams = alice.events(), bob.events()
    await alice.restart()
    await bob.restart()
    await exchange(alice, bob)
    await asyncio.gather(moved(alice, streams[0]), moved(bob, streams[1]))
    await talk(alice, bob)


async def moved(agent: Agent, events: EventStream) -> None:
    """The new generation's path is in use."""
    async for _ in events:
        path = agent.selected_path()
        if path is not None and path.generation > 0:
            return


async def talk(alice: Agent, bob: Agent) -> None:
    await alice.send(PAYLOAD)
    assert await bob.recv() == PAYLOAD


def relayed(server: Server, leg: Leg, transport: str) -> Policy:
    host, port = server.address(leg)
    return policy().revised(
        transports=[transport],
        candidate_types=["relay"],
        servers=[{"url": f"turn:{host}:{port}?transport={leg.value}", "username": "user", "password": "pass"}],
    )


@pytest.mark.parametrize(("leg", "transport"), [(Leg.UDP, "udp"), (Leg.TCP, "udp"), (Leg.TCP, "tcp")])
def test_two_agents_of_a_process_replay_from_their_capsules(
    leg: Leg, transport: str, tmp_path: Path, on_loop: Runner
) -> None:
    files = (tmp_path / "alice", tmp_path / "bob")
    options = ServerOptions(hosts=(HOST,), port=0, users={"user": "pass"}, peers=PeerPolicy(loopback=True))

    async def body() -> None:
        with Capsule.create(files[0]) as one, Capsule.create(files[1]) as two:
            async with Server(options) as server:
                rules = relayed(server, leg, transport)
                async with (
                    Agent(Role.CONTROLLING, policy=rules, capsule=one) as alice,
                    Agent(Role.CONTROLLED, policy=rules, capsule=two) as bob,
                ):
                    await session(alice, bob)

    on_loop(body())
    for file in files:
        assert replayed(file).difference is None
        assert {"gather", "leg_opened", "leg_received", "restart", "timer_expired", "close"} <= set(names(file))
        assert PAYLOAD.hex() not in file.read_text("utf-8")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_direct_sessions_replay_from_their_capsules(transport: str, tmp_path: Path, on_loop: Runner) -> None:
    files = (tmp_path / "alice", tmp_path / "bob")

    async def body() -> None:
        rules = policy(f"transports: [{transport}]\n")
        with Capsule.create(files[0]) as one, Capsule.create(files[1]) as two:
            async with (
                Agent(Role.CONTROLLING, policy=rules, components=2, capsule=one) as alice,
                Agent(Role.CONTROLLED, policy=rules, components=2, capsule=two) as bob,
            ):
                await session(alice, bob)

    on_loop(body())
    for file in files:
        came = replayed(file)
        assert (came.difference, came.inputs > 20) == (None, True)
        text = file.read_text("utf-8")
        assert json.loads(text.splitlines()[-1]) == {"end": "closed"}
        assert PAYLOAD.hex() not in text


def test_without_a_capsule_nothing_is_in_the_way() -> None:
    async def body() -> None:
        core, _ = open_session(
            Role.CONTROLLING,
            Policy.default(),
            rng=random.SystemRandom(),
            components=1,
            trace=None,
            on_event=lambda _: None,
        )
        assert type(core) is Core

    run(body())


# The commands


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_demonstration_is_recorded_and_replayed(transport: str, tmp_path: Path) -> None:
    file = tmp_path / "demo.capsule"
    arguments = ["demo", "--size", "4096", "--transport", transport, "--json", "--capsule", str(file)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    result = CliRunner().invoke(main, ["replay", str(file)])
    assert (result.exit_code, result.output.endswith(": the same\n")) == (0, True)


def test_a_gathering_is_recorded_and_only_one(tmp_path: Path) -> None:
    file = tmp_path / "gather.capsule"
    rules = tmp_path / "policy.yaml"
    rules.write_text("interfaces: {loopback: true}\n", "utf-8")
    arguments = ["gather", "--policy", str(rules), "--capsule", str(file)]
    result = CliRunner().invoke(main, [*arguments, "--watch"])
    assert (result.exit_code, "leave out --watch" in result.output, file.exists()) == (2, True, False)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert CliRunner().invoke(main, ["replay", str(file)]).exit_code == 0


@pytest.mark.parametrize("command", ["demo", "gather", "listen", "connect", "forward", "send", "receive"])
def test_a_capsule_that_cannot_be_made_is_refused_before_anything_happens(command: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    more = {"forward": ["-L", "8080:localhost:80"], "send": [str(there)]}.get(command, [])
    where = [] if command in ("demo", "gather") else ["--signal", f"file:{tmp_path}"]
    for file, what in ((there, "File exists"), (tmp_path / "no" / "where", "No such file or directory")):
        result = CliRunner().invoke(main, [command, *more, *where, "--capsule", str(file)])
        assert (result.exit_code, what in result.output) == (2, True), result.output
    assert there.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["there"]


def test_both_ends_of_a_pipe_are_recorded(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    rules = tmp_path / "policy.yaml"
    rules.write_text("address_families: [ipv4]\ninterfaces: {include: [lo], loopback: true}\n", "utf-8")
    options = ("--signal", f"file:{meeting}", "--policy", rules)

    async def body() -> None:
        listening = await start("listen", *options, "--capsule", tmp_path / "listen.capsule")
        code = await code_of(listening)
        connecting = await start("connect", code, *options, "--capsule", tmp_path / "connect.capsule")
        answers = await asyncio.gather(connecting.communicate(b"question"), listening.communicate(b"answer"))
        assert [*answers] == [(b"answer", b""), (b"question", b"")]

    run(body())
    for name in ("listen", "connect"):
        came = replayed(tmp_path / f"{name}.capsule")
        assert (came.difference, came.inputs > 10) == (None, True)
