"""The pace of conversations with servers (RFC 8445 s14.2), alone and among the agents of a process."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ice_tcp.core.commands import Connect, OpenLeg, SendDatagram
from ice_tcp.core.context import Context
from ice_tcp.core.events import Role
from ice_tcp.core.pacing import MINIMUM_INTERVAL, Pacer
from ice_tcp.core.servers.launcher import Launcher
from tests.core.net import AWAY, policy, udp_candidate
from tests.core.peer import Peer
from tests.core_servers.world import HOST, OTHER_HOST, STUN, Client, World, served, turn


class Begun:
    """What began when; each sends something, unless told otherwise."""

    def __init__(self, proposed: float = 0.02) -> None:
        self.context = Context(policy(pacing={"proposed": proposed}), None, Pacer(), None)  # type: ignore[arg-type]
        self.launcher = Launcher(self.context)
        self.log: list[tuple[str, float]] = []

    def launch(self, name: str, now: float, *, sends: bool = True) -> None:
        def begin(at: float) -> None:
            self.log.append((name, at))
            if sends:
                self.context.commands.append(SendDatagram(1, udp_candidate().address, b""))  # type: ignore[arg-type]

        self.launcher.launch(begin, now)

    def run(self, until: float) -> None:
        while (at := self.context.timers.next_at()) is not None and at <= until:
            self.context.timers.expire(at)


def test_the_first_begins_at_once_but_never_within_the_call() -> None:
    begun = Begun()
    begun.launch("a", 5.0)
    assert begun.log == []
    begun.run(5.0)
    assert begun.log == [("a", 5.0)]


def test_they_follow_in_order_at_the_pace() -> None:
    begun = Begun(proposed=0.02)
    for name in "abc":
        begun.launch(name, 5.0)
    begun.run(6.0)
    assert [name for name, _ in begun.log] == ["a", "b", "c"]
    assert [at for _, at in begun.log] == pytest.approx([5.0, 5.02, 5.04])


def test_what_nobody_wants_any_more_takes_no_slot() -> None:
    begun = Begun()
    for name in "abc":
        begun.launch(name, 5.0, sends=name != "a")
    begun.run(5.0)
    assert begun.log == [("a", 5.0), ("b", 5.0)]


def test_what_is_cleared_never_begins() -> None:
    begun = Begun()
    begun.launch("a", 5.0)
    begun.launcher.clear()
    begun.run(6.0)
    assert begun.log == [] and begun.context.timers.next_at() is None
    begun.launch("b", 7.0)
    begun.run(8.0)
    assert begun.log == [("b", 7.0)]


def test_a_late_timer_moves_the_others() -> None:
    begun = Begun()
    begun.launch("a", 5.0)
    begun.context.pacer.take(5.001)
    begun.context.timers.expire(5.002)
    assert begun.log == []
    begun.run(6.0)
    assert begun.log[0][1] == pytest.approx(5.001 + MINIMUM_INTERVAL)


def begins_at(client: Client) -> list[float]:
    """The instants of what makes a new binding: requests over UDP, and connections, to whomever."""
    known: set[bytes] = set()
    found = []
    for at, command in client.commands:
        if isinstance(command, SendDatagram):
            kind, id_ = command.data[:2], command.data[8:20]
            if kind != b"\x00\x01" or id_ in known:
                continue
            known.add(id_)
            found.append(at)
        elif isinstance(command, OpenLeg | Connect):
            found.append(at)
    return found


def test_never_two_within_5_ms_in_a_process() -> None:
    """RFC 8445 s14.2, MUST NOT: two agents, with checks and two servers each, over all transports."""
    world = World()
    for host in (HOST, OTHER_HOST):
        world.server(hosts=[host])
    pacer = Pacer()
    keys = {"transports": ["udp", "tcp"], "address_families": ["ipv4"], "pacing": {"strict": True}}
    entries = [turn(), turn(f"turn:{OTHER_HOST}"), STUN]
    one = world.client(served(*entries, **keys), pacer=pacer)
    other = world.client(served(*entries, **keys), Role.CONTROLLED, hosts=[AWAY], seed=2, pacer=pacer)
    world.connect(one, other)
    world.run(3)
    begun = sorted([*begins_at(one), *begins_at(other)])
    assert len(begun) > 20
    assert min(later - earlier for earlier, later in pairwise(begun)) > MINIMUM_INTERVAL - 1e-6


def test_gathering_does_not_keep_checks_from_their_slots() -> None:
    world = World()
    hosts = [f"192.0.2.{n}" for n in range(1, 15)]
    client = world.client(served(*({"url": f"stun:203.0.113.{n}"} for n in range(50, 60))), hosts=hosts)
    client.gather()
    Peer(client).introduce(udp_candidate())
    world.run(0.3)
    checks = [sent for sent in client.requests if sent.remote.host == AWAY]
    assert len(checks) >= 2


def test_the_pace_of_gathering_is_the_proposed_one() -> None:
    world = World()
    keys = {"pacing": {"proposed": 0.03}}
    client = world.client(served(*({"url": f"stun:203.0.113.{n}"} for n in range(50, 55)), **keys))
    client.gather()
    world.run(0.4)
    gaps = [later - earlier for earlier, later in pairwise(begins_at(client))]
    assert gaps == pytest.approx([0.03] * 4)
