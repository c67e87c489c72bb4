"""An hour of virtual time: lifetimes, permissions, channels and nonces are kept up, and nothing is lost meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from candidates.candidate import TransportAddress
from ice_tcp.core.turn import ServerVerdict, State, UdpAllocation
from ice_tcp.stun import Method
from tests.core_turn.script import ALICE, Clock, Recorder
from tests.core_turn.server import DELAY, FakeServer

HOUR = 3600
BUSY = TransportAddress("192.0.2.33", 7000)
IDLE = TransportAddress("192.0.2.34", 7000)


@dataclass
class Session:
    clock: Clock
    server: FakeServer
    listener: Recorder
    machine: UdpAllocation

    def run(self, seconds: int) -> int:
        """Send to BUSY every second, to IDLE every 11 minutes; return how much was sent."""
        sent = 0
        for second in range(seconds):
            sent += self.machine.send_data(BUSY, b"%d" % second, self.clock.now)
            if second % 660 == 659:
                sent += self.machine.send_stun(IDLE, b"are you there?", self.clock.now)
            self.clock.advance(1)
        return sent

    @property
    def received(self) -> int:
        return sum(told[0] == "data" for told in self.listener.told)


def session(
    *,
    reliable: bool = False,
    lifetime: int = 600,
    nonce_lifetime: float = 1e9,
    algorithms: bool = False,
    loss: float = 0.0,
) -> Session:
    clock = Clock()
    server = FakeServer(
        clock, reliable=reliable, lifetime=lifetime, nonce_lifetime=nonce_lifetime, algorithms=algorithms, loss=loss
    )
    listener = Recorder()
    machine = UdpAllocation(clock.context, server, listener, credentials=ALICE)
    server.deliver = machine.received
    machine.permit([BUSY.host, IDLE.host], clock.now)
    machine.start(clock.now)
    clock.advance(10 if loss else 1)
    assert machine.state is State.ALLOCATED
    return Session(clock, server, listener, machine)


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("algorithms", [False, True])
@pytest.mark.parametrize(
    ("lifetime", "refreshes"),
    [(600, 6), (3600, 1), (10, int(HOUR / (5 + 2 * DELAY)))],
    ids=["ten minutes", "an hour", "seconds"],
)
def test_an_hour(reliable: bool, algorithms: bool, lifetime: int, refreshes: int) -> None:
    here = session(reliable=reliable, lifetime=lifetime, algorithms=algorithms)
    sent = here.run(HOUR)
    assert sent == HOUR + 5
    assert here.received == sent
    assert here.server.breaches == []
    assert here.server.requests == {
        Method.ALLOCATE: 1,
        Method.REFRESH: refreshes,
        Method.CREATE_PERMISSION: 1 + HOUR // 240,
        Method.CHANNEL_BIND: 1 + (HOUR - 1) // 540,
    }
    assert here.server.echoes == {"channel": HOUR - 1, "indication": 1 + 5}
    assert here.machine.dropped == {}


@pytest.mark.parametrize("algorithms", [False, True])
def test_an_hour_of_short_nonces(algorithms: bool) -> None:
    here = session(nonce_lifetime=45.0, algorithms=algorithms)
    sent = here.run(HOUR)
    assert (sent, here.received) == (HOUR + 5, HOUR + 5)
    assert here.server.breaches == []


def test_an_hour_of_loss() -> None:
    here = session(loss=0.2)
    sent = here.run(HOUR)
    assert here.machine.state is State.ALLOCATED
    assert sent == HOUR + 5
    assert 0.55 * sent < here.received < 0.75 * sent
    assert here.server.breaches == []


def test_close_after_an_hour() -> None:
    here = session()
    here.run(HOUR)
    assert here.server.exists
    here.machine.close(here.clock.now)
    here.clock.advance(1)
    assert not here.server.exists
    assert here.listener.told[-1] == ("closed",)
    assert here.clock.context.timers.next_at() is None


def test_server_dies_in_the_middle() -> None:
    here = session()
    here.run(1000)
    here.server.alive = False
    here.run(300)
    name, failure = here.listener.told[-1]
    assert name == "lost"
    assert getattr(failure, "cause", None) is ServerVerdict.NO_RESPONSE
    assert not here.machine.send_data(BUSY, b"x", here.clock.now)
