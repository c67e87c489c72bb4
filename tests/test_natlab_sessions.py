"""What befalls a session: mappings that expire, NATs that reboot, paths that come late. Needs root (`make lab-ci`)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from interop.natlab.cell import Session, run_cell
from interop.natlab.expectation import Outcome
from interop.natlab.kinds import Site
from interop.natlab.namespaces import Run
from interop.natlab.results import CellResult, SideResult
from interop.natlab.scenario import Scenario, ServerKind, Transports, Weather
from interop.natlab.servers import make_certificate
from interop.natlab.topology import LEFT, RIGHT

pytestmark = pytest.mark.natlab

WATCHFUL = {"consent": {"interval": 0.5, "timeout": 3.0}}
"""Consent that is lost soon, so that a test need not wait for half a minute."""


def cell(run: Run, directory: Path, script: Any, left: str, right: str, **fields: Any) -> CellResult:
    scenario = Scenario(left=Site.parse(left), right=Site.parse(right), **fields)
    make_certificate(directory)
    result = asyncio.run(run_cell(scenario, run.name, directory / "cell", directory, script))
    assert result.error is None, result.error
    return result


def first(side: SideResult, name: str, *, after: float = 0.0, relayed: bool | None = None) -> float | None:
    """When a process told something for the first time; of pairs, whether they are relayed."""
    for at, told, data in side.told:
        if told == name and at >= after and (relayed is None or relayed is is_relayed(data)):
            return at
    return None


def is_relayed(data: Any) -> bool:
    return "relay" in (data["local"]["type"], data["remote"]["type"])


async def finish(session: Session) -> None:
    """End both streams, and wait for what both sides counted."""
    for host in session.hosts:
        await host.ask("finish")
    await session.until(lambda side: "stream" in side.moments)


def counted(result: CellResult) -> list[tuple[int, int, list[int]]]:
    """Of each side: numbers that it sent, those that came, and which of them were not the next."""
    found = []
    for side in result.sides:
        (data,) = [data for _, name, data in side.told if name == "stream"]
        found.append((data["sent"], data["received"], data["wrong"]))
    return found


def nothing_was_lost(result: CellResult) -> None:
    (left_sent, left_received, left_wrong), (right_sent, right_received, right_wrong) = counted(result)
    assert left_wrong == right_wrong == []
    assert (left_received, right_received) == (right_sent, left_sent)
    assert min(left_sent, right_sent) > 100


# Relay first, direct later


@pytest.mark.parametrize("transports", [Transports.UDP, Transports.TCP])
def test_a_direct_path_that_comes_late_takes_over_and_nothing_is_lost(
    run: Run, tmp_path: Path, transports: Transports
) -> None:
    async def script(session: Session) -> None:
        session.world.cut(LEFT, RIGHT)
        await session.until(lambda side: "data" in side.moments)
        await asyncio.sleep(1.0)
        session.world.mend(LEFT)
        await session.until(lambda side: first(side, "selected", relayed=False) is not None)
        await asyncio.sleep(1.0)
        await finish(session)

    result = cell(
        *(run, tmp_path, script, "port-restricted", "port-restricted"),
        transports=transports,
        streams=True,
        policy={"nomination": {"relay_grace": 30.0}},
    )
    nothing_was_lost(result)
    for side in result.sides:
        relayed_at, direct_at = first(side, "selected", relayed=True), first(side, "selected", relayed=False)
        valid_at = first(side, "pair", relayed=False)
        assert relayed_at is not None and direct_at is not None and valid_at is not None
        assert relayed_at < valid_at
        assert direct_at - valid_at < result.scenario.weather.rtt


# Mappings that are forgotten


@pytest.mark.parametrize("transports", [Transports.UDP, Transports.TCP])
def test_data_goes_on_after_mappings_have_expired(run: Run, tmp_path: Path, transports: Transports) -> None:
    """Nobody says anything for longer than the boxes remember; consent is asked for seldom here."""

    async def script(session: Session) -> None:
        await session.connect()
        for host in session.hosts:
            host.result.told.clear()
            await host.ask("quiet", seconds=6.0)
        await session.until(lambda side: first(side, "heard") is not None)

    result = cell(
        *(run, tmp_path, script, "port-restricted+short", "port-restricted+short"),
        transports=transports,
        policy={"consent": {"interval": 20.0, "timeout": 60.0}},
    )
    assert result.outcome is Outcome.DIRECT


def test_after_a_reboot_consent_is_missed_and_a_restart_carries_the_data_on(run: Run, tmp_path: Path) -> None:
    """The NAT forgets its mappings and gives others: what the peer sends arrives nowhere."""
    rebooted_at = 0.0

    async def script(session: Session) -> None:
        nonlocal rebooted_at
        await session.until(lambda side: "data" in side.moments and "nominated" in side.moments)
        await asyncio.sleep(1.0)
        session.world.reboot(LEFT)
        rebooted_at = time.monotonic()
        await session.until_one(session.right, lambda side: disconnected(side, rebooted_at) is not None)
        await session.right.ask("restart")
        await session.until(lambda side: nominated_after(side, first(side, "restarted")))
        await asyncio.sleep(1.0)
        await finish(session)

    result = cell(
        *(run, tmp_path, script, "symmetric-sequential", "full-cone"),
        transports=Transports.UDP,
        streams=True,
        policy=WATCHFUL,
    )
    nothing_was_lost(result)
    assert disconnected(result.right, rebooted_at) == "no-response"


def test_after_a_reboot_a_tcp_connection_is_opened_again_and_the_data_goes_on(run: Run, tmp_path: Path) -> None:
    """RFC 6544 s11.1: who can dial does, and the other side takes the new connection for the old one."""
    rebooted_at = 0.0

    async def script(session: Session) -> None:
        nonlocal rebooted_at
        await session.until(lambda side: "data" in side.moments and "nominated" in side.moments)
        await asyncio.sleep(4.0)  # the connections that lost are closed by then
        session.world.reboot(LEFT)
        rebooted_at = time.monotonic()
        await session.until(lambda side: nominated_after(side, rebooted_at))
        await asyncio.sleep(1.0)
        await finish(session)

    result = cell(
        *(run, tmp_path, script, "symmetric-sequential", "full-cone"),
        transports=Transports.TCP,
        streams=True,
        policy=WATCHFUL,
    )
    nothing_was_lost(result)
    assert disconnected(result.left, rebooted_at) == "reset"
    assert [first(side, "restarted") for side in result.sides] == [None, None]


def disconnected(side: SideResult, after: float) -> str | None:
    """Why the path was in doubt, the first time after an instant."""
    return next(
        (
            data["verdict"]
            for at, name, data in side.told
            if name == "state" and data["state"] == "disconnected" and at >= after
        ),
        None,
    )


def nominated_after(side: SideResult, at: float | None) -> bool:
    return at is not None and any(
        name == "selected" and data["nominated"] and told_at >= at for told_at, name, data in side.told
    )


# The server


@pytest.mark.parametrize("transports", [Transports.UDP, Transports.TCP])
def test_the_embedded_server_relays_as_well(run: Run, tmp_path: Path, transports: Transports) -> None:
    sites = ("symmetric-random", "symmetric-random")
    result = cell(
        run,
        tmp_path,
        Session.connect,
        *sites,
        transports=transports,
        servers=ServerKind.EMBEDDED,
        weather=Weather(rtt=0.05),
    )
    assert result.outcome is Outcome.RELAY
