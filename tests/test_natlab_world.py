"""The NAT lab in earnest: namespaces, kernel NATs, agents in processes of their own. Needs root (`make lab-ci`)."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interop.natlab.cell import run_cell
from interop.natlab.classify import classify, mismatches
from interop.natlab.expectation import Outcome
from interop.natlab.kinds import KINDS, Option, Site
from interop.natlab.namespaces import LOCKS, PREFIX, Run, create, delete, inside
from interop.natlab.results import CellResult
from interop.natlab.scenario import Scenario, ServerKind, Transports, Weather
from interop.natlab.servers import make_certificate
from interop.natlab.topology import LEFT, RIGHT
from interop.natlab.world import World

pytestmark = pytest.mark.natlab

NETNS = Path("/run/netns")
QUICK = Weather(rtt=0.01)


def names_of(run_id: str) -> list[Path]:
    return list(NETNS.glob(f"{PREFIX}{run_id}-*"))


# Worlds


SITES = [
    *KINDS,
    *(f"port-restricted+{option}" for option in Option),
    "ipv6-firewall+rst",
    "ipv6-firewall+no-so",
    "full-cone+hairpin",
    "symmetric-random+hairpin",
    "port-restricted+cgn",
    "full-cone+cgn=symmetric-random",
]


@pytest.mark.parametrize("text", SITES)
def test_every_box_is_what_its_name_says(run: Run, tmp_path: Path, text: str) -> None:
    site = Site.parse(text)
    scenario = Scenario(left=site, right=Site(KINDS["direct"]), weather=QUICK)

    async def main() -> list[str]:
        async with World(scenario, tmp_path, run.name) as world:
            return mismatches(site, await asyncio.to_thread(classify, world, site))

    assert asyncio.run(main()) == []


def test_a_box_with_other_rules_than_its_name_is_found_out(run: Run, tmp_path: Path) -> None:
    really = Site.parse("port-restricted")
    scenario = Scenario(left=really, right=Site(KINDS["direct"]), weather=QUICK)

    async def main() -> list[str]:
        async with World(scenario, tmp_path, run.name) as world:
            site = Site.parse("full-cone")
            return mismatches(site, await asyncio.to_thread(classify, world, site))

    assert asyncio.run(main()) == [
        "udp filtering: address-and-port-dependent, not endpoint-independent",
        "tcp filtering: address-and-port-dependent, not endpoint-independent",
    ]


def test_packets_take_as_long_as_the_weather_says(run: Run, tmp_path: Path) -> None:
    direct = Site(KINDS["direct"])
    scenario = Scenario(left=direct, right=direct, weather=Weather(rtt=0.2))

    async def main() -> float:
        async with World(scenario, tmp_path, run.name) as world:
            with inside(world.nodes[RIGHT].namespace):
                server = socket.create_server((world.topology.public(RIGHT)[0], 5000))
            with inside(world.nodes[LEFT].namespace):
                client = socket.socket()
            with server, client:
                began = time.monotonic()
                client.connect(server.getsockname())
                return time.monotonic() - began

    assert asyncio.run(main()) >= 0.2
    assert "TCP SYN" in (tmp_path / "packets.txt").read_text()


def test_a_reboot_forgets_every_mapping(run: Run, tmp_path: Path) -> None:
    scenario = Scenario(left=Site.parse("full-cone"), right=Site(KINDS["direct"]), weather=QUICK)

    async def main() -> None:
        async with World(scenario, tmp_path, run.name) as world:
            with inside(world.nodes[RIGHT].namespace):
                outside = socket.socket(type=socket.SOCK_DGRAM)
            with inside(world.nodes[LEFT].namespace):
                host, other = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
            with outside, host, other:
                outside.bind((world.topology.public(RIGHT)[0], 5000))
                for sock in (outside, host, other):
                    sock.settimeout(2.0)
                host.sendto(b"hole", outside.getsockname())
                _, outer = outside.recvfrom(100)
                outside.sendto(b"before", outer)
                assert host.recv(100) == b"before"
                world.reboot(LEFT)
                outside.sendto(b"lost", outer)
                # Packets keep their order: once the other socket has its answer, that one has been dropped.
                other.sendto(b"hole", outside.getsockname())
                outside.sendto(b"answer", outside.recvfrom(100)[1])
                assert other.recv(100) == b"answer"
                host.sendto(b"hole", outside.getsockname())
                outside.sendto(b"mapped anew", outside.recvfrom(100)[1])
                assert host.recv(100) == b"mapped anew"

    asyncio.run(main())


# Cells


def cell(run: Run, directory: Path, left: str, right: str | None, **fields: object) -> CellResult:
    scenario = Scenario(
        left=Site.parse(left),
        right=None if right is None else Site.parse(right),
        **fields,  # type: ignore[arg-type]  # the names and types are Scenario's
    )
    make_certificate(directory)
    return asyncio.run(run_cell(scenario, run.name, directory / "cell", directory))


@pytest.mark.parametrize("transports", Transports)
@pytest.mark.parametrize(("left", "right"), [("direct", "symmetric-random"), ("ipv6-firewall", "ipv6-firewall")])
def test_what_needs_no_server_is_direct(
    run: Run, tmp_path: Path, left: str, right: str, transports: Transports
) -> None:
    result = cell(run, tmp_path, left, right, transports=transports)
    assert result.ok, result.why
    assert result.outcome is Outcome.DIRECT
    assert (tmp_path / "cell" / "left.jsonl").read_text()


def test_neighbours_meet_at_home(run: Run, tmp_path: Path) -> None:
    result = cell(run, tmp_path, "symmetric-random", None)
    assert result.path == "udp host > host"


@pytest.mark.parametrize("servers", [ServerKind.COTURN, ServerKind.EMBEDDED])
def test_servers_start(run: Run, tmp_path: Path, servers: ServerKind) -> None:
    assert cell(run, tmp_path, "direct", "direct", servers=servers).ok


def test_where_there_is_no_path_both_agents_say_so(run: Run, tmp_path: Path) -> None:
    nothing = {"candidate_types": ["host"], "timeouts": {"patience": 1.0, "connect": 0.5, "tcp_check": 0.5}}
    result = cell(run, tmp_path, "port-restricted", "port-restricted", transports=Transports.TCP, policy=nothing)
    assert result.outcome is Outcome.FAILED
    assert result.left.failure is not None
    assert result.right.failure is not None


# The bare mechanism

PUNCH = """
import asyncio, sys, ice_tcp
async def main(host, port, local_port, at, secret):
    reader, writer = await ice_tcp.punch(host, int(port), local_port=int(local_port), at=float(at), timeout=10,
                                         secret=secret.encode() or None)
    writer.write(b"hello")
    print((await reader.readexactly(5)).decode())
    writer.close()
    await writer.wait_closed()
asyncio.run(main(*sys.argv[1:]))
"""
"""One end that punches: host, port, local port, moment, secret."""

PLAIN = """
import socket, sys, time
host, port, local_port, at, _ = sys.argv[1:]
sock = socket.socket()
sock.bind(("", int(local_port)))
time.sleep(float(at) - time.time())
sock.connect((host, int(port)))
sock.sendall(b"hello")
print(sock.recv(5, socket.MSG_WAITALL).decode())
"""
"""One end that knows nothing but ``connect()``, and calls it once."""


def punch(
    run: Run, directory: Path, left: str, right: str, skew: float, programs: tuple[str, str], secret: str = ""
) -> list[str]:
    """What two programs on the hosts hear of each other; the right one begins later by ``skew``."""
    scenario = Scenario(left=Site.parse(left), right=Site.parse(right))
    ports = {LEFT: 4000, RIGHT: 5000}

    async def main() -> list[str]:
        async with World(scenario, directory, run.name) as world:
            at = time.time() + 1.0
            begins = {LEFT: at + max(0.0, -skew), RIGHT: at + max(0.0, skew)}
            processes = []
            for own, other, program in ((LEFT, RIGHT, programs[0]), (RIGHT, LEFT, programs[1])):
                arguments = [world.topology.public(other)[0], ports[other], ports[own], begins[own], secret]
                processes.append(
                    await world.spawn(own, sys.executable, "-c", program, *(str(each) for each in arguments))
                )
            return [(await process.communicate())[0].decode().strip() for process in processes]

    return asyncio.run(main())


@pytest.mark.parametrize("skew", [0.0, 0.05, 0.1, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["port-restricted", "port-restricted+rst"])
def test_two_punches_meet_through_two_nats(run: Run, tmp_path: Path, kind: str, skew: float) -> None:
    assert punch(run, tmp_path, kind, kind, skew, (PUNCH, PUNCH)) == ["hello", "hello"]


@pytest.mark.parametrize("skew", [-0.5, 0.0, 0.5])
def test_a_plain_socket_that_connects_once_is_met_through_two_nats(run: Run, tmp_path: Path, skew: float) -> None:
    assert punch(run, tmp_path, "port-restricted", "port-restricted", skew, (PUNCH, PLAIN)) == ["hello", "hello"]


def test_behind_a_symmetric_nat_a_secret_lets_the_peer_in(run: Run, tmp_path: Path) -> None:
    secret = "correct horse battery staple"
    sites = ("full-cone", "symmetric-random")
    assert punch(run, tmp_path, *sites, 0.1, (PUNCH, PUNCH), secret) == ["hello", "hello"]


# Leaving nothing behind


def test_a_run_leaves_nothing(run: Run, tmp_path: Path) -> None:
    cell(run, tmp_path, "direct", "direct")
    assert names_of(run.id) == []


def lab(*arguments: str) -> subprocess.Popen[bytes]:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a job of the background, whose children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "interop", "lab", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def held() -> tuple[subprocess.Popen[bytes], str]:
    """A lab that holds a connected cell, and the id of its run."""
    process = lab("--left", "direct", "--right", "full-cone", "--transport", "tcp", "--keep")
    assert process.stdout is not None
    for line in process.stdout:
        if b"ip netns exec" in line:
            return process, line.decode().split(PREFIX)[1].partition("-")[0]
    raise AssertionError("it did not get so far")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_lab_clears_up(run: Run, how: signal.Signals) -> None:
    process, run_id = held()
    assert names_of(run_id)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert names_of(run_id) == []
    assert not (LOCKS / f"{run_id}.lock").exists()


def test_what_a_crashed_lab_left_is_cleared_away_by_the_next(run: Run) -> None:
    process, run_id = held()
    process.kill()
    process.communicate(timeout=30)
    left = names_of(run_id)
    assert left
    strangers = NETNS / f"{PREFIX}notours"
    create([strangers.name])
    try:
        with Run() as second:
            assert names_of(run_id) == []
            assert second.id != run_id
        assert strangers.exists()
        assert names_of(run.id) == []  # nothing of a run that lives was touched
        assert (LOCKS / f"{run.id}.lock").exists()
    finally:
        delete([strangers.name])
