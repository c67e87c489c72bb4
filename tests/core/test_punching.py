"""Simultaneous open without ICE: one port, one peer."""

from __future__ import annotations

import random

from candidates.candidate import TransportAddress
from candidates.policy import Policy
from ice_tcp.core.commands import Close, Command, Connect, Failure, Listen, ListenerId, StreamId
from ice_tcp.core.punching import Connected, DialEnded, Listening, NotListening, PunchEvent, Punching
from ice_tcp.core.verdicts import Verdict

HERE = TransportAddress("192.0.2.1", 4000)
PEER = TransportAddress("198.51.100.1", 5000)
ELSEWHERE = TransportAddress("198.51.100.1", 5001)
STRANGER = TransportAddress("203.0.113.9", 5000)

POLICY = Policy.model_validate(
    {"timeouts": {"connect": 10.0}, "simultaneous_open": {"fresh_ports": 0, "burst": 2, "redials": 5, "rate": 10.0}}
)


class Port:
    """A core that listens, and what it has asked for and told since it was last looked at."""

    def __init__(self, *, any_port: bool = False, expecting: bool = True) -> None:
        self.core = Punching(POLICY, rng=random.Random(1), any_port=any_port)
        self.core.listen(HERE.host, HERE.port, 0.0)
        (listen,) = self.core.commands()
        assert isinstance(listen, Listen)
        self.listener = listen.listener
        self.ports = listen.ports
        self.core.socket_opened(self.listener, HERE, 0.0)
        assert self.core.events() == [Listening(HERE)]
        if expecting:
            self.core.expect(PEER, 0.0)

    def dial(self, now: float = 0.0) -> StreamId:
        self.core.dial(now)
        return self.dialled()

    def dialled(self) -> StreamId:
        (connect,) = self.commands()
        assert isinstance(connect, Connect)
        assert (connect.remote, connect.listener) == (PEER, self.listener)
        return connect.stream

    def commands(self) -> list[Command]:
        return self.core.commands()

    def events(self) -> list[PunchEvent]:
        return self.core.events()


def test_it_listens_on_the_port_that_was_told() -> None:
    assert Port().ports == (4000, 4000)


def test_any_port_is_any() -> None:
    core = Punching(POLICY, rng=random.Random(1))
    core.listen(HERE.host, 0, 0.0)
    (listen,) = core.commands()
    assert isinstance(listen, Listen)
    assert listen.ports is None


def test_a_port_that_is_taken_is_told() -> None:
    core = Punching(POLICY, rng=random.Random(1))
    core.listen(HERE.host, HERE.port, 0.0)
    core.socket_failed(ListenerId(1), Failure.PORTS_TAKEN, 0.0)
    assert core.events() == [NotListening(Verdict.PORTS_TAKEN)]


def test_the_attempt_leaves_from_the_listeners_port() -> None:
    port = Port()
    stream = port.dial()
    port.core.stream_connected(stream, HERE, 0.1)
    assert port.events() == [Connected(stream, PEER)]
    assert port.commands() == []


def test_a_refused_attempt_is_dialled_again_at_once_then_at_the_rate() -> None:
    port = Port()
    first = port.dial()
    port.core.stream_failed(first, Failure.REFUSED, 0.05)
    second = port.dialled()
    port.core.stream_failed(second, Failure.REFUSED, 0.05)
    assert port.commands() == []
    at = port.core.next_timer()
    assert at is not None
    assert 0.05 < at < 0.3
    port.core.timer_expired(at)
    port.core.stream_connected(port.dialled(), HERE, at)
    assert [type(event) for event in port.events()] == [Connected]


def test_the_end_of_the_budget_is_told_with_the_last_cause() -> None:
    port = Port()
    port.core.dial(0.0)
    now = 0.0
    while commands := port.commands():
        (connect,) = commands
        assert isinstance(connect, Connect)
        now += 0.01
        port.core.stream_failed(connect.stream, Failure.REFUSED, now)
        if (at := port.core.next_timer()) is not None:
            port.core.timer_expired(now := at)
    assert port.events() == [DialEnded(Verdict.REFUSED)]


def test_an_accepted_connection_wins_over_the_attempt() -> None:
    port = Port()
    dialled = port.dial()
    accepted = port.core.stream_accepted(PEER, 0.1)
    assert accepted is not None
    assert port.events() == [Connected(accepted, PEER)]
    assert port.commands() == [Close(dialled)]


def test_the_peer_may_come_before_the_moment() -> None:
    port = Port()
    accepted = port.core.stream_accepted(PEER, 0.1)
    assert accepted is not None
    assert port.events() == [Connected(accepted, PEER)]
    port.core.dial(0.2)
    assert port.commands() == []


def test_the_peer_may_come_before_we_know_who_it_is() -> None:
    port = Port(expecting=False)
    strangers = port.core.stream_accepted(STRANGER, 0.1)
    peers = port.core.stream_accepted(PEER, 0.2)
    assert strangers is not None and peers is not None
    assert port.events() == []
    port.core.expect(PEER, 0.3)
    assert port.events() == [Connected(peers, PEER)]
    assert port.commands() == [Close(strangers)]


def test_who_comes_too_early_is_not_kept_for_ever() -> None:
    port = Port(expecting=False)
    stream = port.core.stream_accepted(PEER, 0.0)
    assert stream is not None
    at = port.core.next_timer()
    assert at == POLICY.timeouts.idle
    port.core.timer_expired(at)
    assert port.commands() == [Close(stream)]
    port.core.expect(PEER, at)
    assert port.events() == []


def test_strangers_are_turned_away() -> None:
    port = Port()
    assert port.core.stream_accepted(STRANGER, 0.1) is None
    assert port.core.stream_accepted(ELSEWHERE, 0.1) is None
    assert port.events() == []


def test_where_peers_are_authenticated_they_may_come_from_another_port() -> None:
    port = Port(any_port=True)
    port.dial()
    assert port.core.stream_accepted(STRANGER, 0.1) is None
    stream = port.core.stream_accepted(ELSEWHERE, 0.1)
    assert stream is not None
    assert port.events() == [Connected(stream, ELSEWHERE)]
    assert port.commands() == []  # the attempt goes on: that one may prove to be somebody else


def test_a_connection_to_oneself_ends_the_attempt() -> None:
    port = Port()
    port.core.stream_failed(port.dial(), Failure.SELF_CONNECT, 0.1)
    assert port.events() == [DialEnded(Verdict.SELF_CONNECT)]


def test_closing_closes_the_port_and_forgets_the_redial() -> None:
    port = Port()
    for _ in range(2):
        port.core.dial(0.0)
        (connect,) = port.commands() or (None,)
        if isinstance(connect, Connect):
            port.core.stream_failed(connect.stream, Failure.ADDRESS_TAKEN, 0.0)
    assert port.core.next_timer() is not None
    port.core.close(0.1)
    assert Close(port.listener) in port.commands()
    assert port.core.next_timer() is None
