"""A server that runs takes other options, another policy file, another certificate; a rendezvous as well."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from candidates.policy import OwnServer, load_policy
from ice_tcp.cli import main
from ice_tcp.rendezvous import Limits as RendezvousLimits
from ice_tcp.rendezvous import Refusal, RendezvousError, RendezvousServer, open_line
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions, short_lived_password
from ice_tcp.server.command import command as server_command
from ice_tcp.server.core.actions import ClosePeer, CloseRoute, CloseStream
from ice_tcp.server.options import FIXED, Limits
from ice_tcp.server.policy import KEYS, options_of
from ice_tcp.stun import Method, channel_number, connection_id, lifetime, requested_transport
from tests.server_clients import UdpClient, make_certificate
from tests.server_world import NOON, OTHER_PEER, PEER, TCP, User, World, options, peer

ROOT = Path(__file__).parent.parent


def change(world: World, **changes: object) -> None:
    world.core.options_changed(options(**changes), world.now)
    world.run()


# What lives on, and what does not


def test_the_allocation_of_a_user_who_is_gone_ends_and_the_others_live_on() -> None:
    world = World()
    ann, bob = User(world), User(world, "bob", "banana", address=("198.51.100.2", 5000))
    ann.allocate(), bob.allocate()
    change(world, users={"bob": "banana", "carl": "cherry"})
    assert len(world.relays) == 1
    bob.succeed(Method.REFRESH)
    assert ann.refused(Method.REFRESH) == 401
    User(world, "carl", "cherry", address=("198.51.100.3", 5000)).allocate()


def test_who_has_another_password_keeps_the_allocation_until_it_must_be_refreshed() -> None:
    world = World()
    ann = User(world)
    ann.allocate()
    change(world, users={"ann": "apricot"})
    assert len(world.relays) == 1
    assert ann.refused(Method.REFRESH) == 401
    ann.password = "apricot"
    ann.succeed(Method.REFRESH)


def test_a_secret_that_goes_takes_its_allocations_along() -> None:
    world = World(options(users={}, shared_secret="old"))
    name = f"{int(NOON) + 1000}:ann"
    user = User(world, name, short_lived_password("old", name))
    user.allocate()
    change(world, users={}, shared_secret="new")
    assert len(world.relays) == 1
    change(world)
    assert world.relays == {}


def test_nonces_stay_good() -> None:
    world = World()
    ann = User(world)
    ann.credentials()
    change(world, users={"ann": "apple"})
    ann.allocate()


def test_permissions_and_routes_to_peers_that_are_closed_end() -> None:
    world = World()
    ann = User(world)
    ann.allocate()
    ann.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    ann.succeed(Method.CHANNEL_BIND, channel_number(0x4001), peer(OTHER_PEER))
    world.take()
    change(world, peers=PeerPolicy(deny=(ip_network(PEER[0]),)))
    closed = [action for action in world.take() if isinstance(action, CloseRoute)]
    assert [(action.number, action.peer) for action in closed] == [(0x4000, PEER)]
    assert ann.refused(Method.CREATE_PERMISSION, peer(PEER)) == 403
    ann.succeed(Method.CREATE_PERMISSION, peer(OTHER_PEER))


def test_connections_with_peers_that_are_closed_end() -> None:
    world = World()
    ann = User(world, leg=Leg.TCP)
    relay = world.relay_at(ann.allocate(protocol=TCP))
    ann.succeed(Method.CREATE_PERMISSION, peer(PEER), peer(OTHER_PEER))
    denied, kept = (world.core.peer_accepted(relay, each, world.now) for each in (PEER, OTHER_PEER))
    assert denied is not None and kept is not None
    world.run()
    ann.received()
    data = User(world, leg=Leg.TCP, address=("198.51.100.1", 5001))
    data.succeed(Method.CONNECTION_BIND, connection_id(denied))
    world.take()
    change(world, peers=PeerPolicy(deny=(ip_network(PEER[0]),)))
    assert world.take() == [ClosePeer(denied), CloseStream(data.stream or 0)]


def test_limits_and_lifetimes_count_for_what_comes() -> None:
    world = World()
    ann, bob = User(world), User(world, "bob", "banana", address=("198.51.100.2", 5000))
    ann.allocate()
    change(world, limits=Limits(allocations=1), default_lifetime=60.0, max_lifetime=60.0)
    assert bob.refused(Method.ALLOCATE, requested_transport(17)) == 508
    assert ann.succeed(Method.REFRESH, lifetime(3600)).lifetime == 60


def test_what_cannot_change_is_named_and_stays() -> None:
    async def body() -> None:
        async with Server(ServerOptions(port=0, users={"user": "pass"})) as server:
            before = server.options
            fixed = server.change(replace(before, port=1, realm="elsewhere", max_lifetime=700.0))
            assert fixed == ("port", "realm")
            assert server.options == replace(before, max_lifetime=700.0)
            client = UdpClient(server.address(Leg.UDP))
            await client.allocate(17)
            client.close()

    asyncio.run(body())


def test_limits_of_a_rendezvous_change_while_it_runs() -> None:
    async def body() -> Refusal | None:
        async with RendezvousServer("127.0.0.1") as server:
            url = f"ws://127.0.0.1:{server.port}"
            async with open_line(url):
                server.limits = RendezvousLimits(connections=1)
                with pytest.raises(RendezvousError) as refused:
                    async with open_line(url):
                        pass
        return refused.value.reason

    assert asyncio.run(body()) is Refusal.FULL


# The document


PAGE = (ROOT / "docs" / "servers.md").read_text("utf-8")


def test_the_policy_of_the_page_about_servers_is_good() -> None:
    (text,) = re.findall(r"^```yaml\n(server:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    environ = {"TURN_SECRET": "sesame"}
    section = load_policy(text, environ=environ, read_file={"/etc/ice-tcp/users": "ann:apple\n"}.__getitem__).server
    found = options_of(section, lambda: ("192.0.2.99",))
    assert (found.hosts, found.tls_port, found.users) == (("192.0.2.10",), 443, {"ann": "apple"})
    assert found.limits == Limits(allocations=500, allocations_per_user=8)
    assert not found.peers.permits("198.51.100.1")


def test_the_page_about_servers_says_what_needs_a_restart() -> None:
    (row,) = re.findall(r"^\| (.*) \| nothing; the log", PAGE, re.MULTILINE)
    keys = {KEYS.get(name, name) for name in FIXED}
    assert set(re.findall(r"`(\w+)`", row)) == keys & set(OwnServer.model_fields)


@pytest.mark.parametrize("line", re.findall(r"^\$ ice-tcp (.*)", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_about_servers_are_taken(line: str, tmp_path: Path) -> None:
    arguments = line.split()
    (tmp_path / "server.yaml").write_text("{}", "utf-8")
    given = [str(tmp_path / each) if each == "server.yaml" else each for each in arguments]
    if given[0] == "policy":
        assert CliRunner().invoke(main, given).exit_code == 0
    else:
        server_command.make_context(given[0], given[1:])


# The commands


@dataclass
class Running:
    process: subprocess.Popen[str]
    urls: list[str]

    def tells(self, expected: str) -> bool:
        """Whether a line of its log, sooner or later, has this."""
        assert self.process.stderr is not None
        return any(expected in line for line in self.process.stderr)

    def rereads(self, expected: str) -> bool:
        """Whether it says this after a SIGHUP."""
        self.process.send_signal(signal.SIGHUP)
        return self.tells(expected)

    @property
    def port(self) -> int:
        return int(self.urls[-1].rpartition(":")[2].partition("?")[0])


@contextmanager
def running(lines: int, *arguments: str) -> Iterator[Running]:
    """A command of `ice-tcp`, until the end of the block; it must end well."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "ice_tcp.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            assert process.stdout is not None
            yield Running(process, [process.stdout.readline().strip() for _ in range(lines)])
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def allocates(port: int, name: str, password: str) -> bool:
    async def body() -> bool:
        client = UdpClient(("127.0.0.1", port), name, password)
        try:
            await client.allocate(17)
        except AssertionError:
            return False
        finally:
            client.close()
        return True

    return asyncio.run(body())


def serial(port: int) -> int:
    """Of the certificate that a TLS server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def serial_of(certificate: Path) -> int:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


SERVER = "server:\n  listen: [127.0.0.1]\n  port: 0\n"


def test_a_server_follows_its_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"{SERVER}  users: [{{name: ann, password: apple}}]\n", "utf-8")
    with running(2, "server", "--policy", str(path)) as server:
        assert server.urls[0].startswith("turn:127.0.0.1:")
        assert allocates(server.port, "ann", "apple")
        fresh = tmp_path / "fresh"
        fresh.write_text(f"{SERVER}  users: [{{name: bob, password: banana}}]\n", "utf-8")
        fresh.replace(path)
        assert server.tells(f"{path}: read again")  # by itself, without a signal
        assert allocates(server.port, "bob", "banana") and not allocates(server.port, "ann", "apple")
        path.write_text(f"{SERVER}  max_lifetime: long\n", "utf-8")
        assert server.tells(f"{path}:4:17: server.max_lifetime: not a number")
        assert allocates(server.port, "bob", "banana")
        path.write_text(f"{SERVER}  realm: elsewhere\n", "utf-8")
        assert server.rereads(f"{path}: read again")
        assert server.tells("needs a restart: realm")


def test_options_override_the_policy_of_a_server(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "server: {listen: [192.0.2.200], port: 1, users: [{name: ann, password: apple}], realm: here}\n", "utf-8"
    )
    given = ("--listen", "127.0.0.1", "--port", "0", "--user", "bob:banana")
    with running(2, "server", "--policy", str(path), *given) as server:
        assert allocates(server.port, "bob", "banana") and not allocates(server.port, "ann", "apple")
        assert server.rereads(f"{path}: read again")
        assert allocates(server.port, "bob", "banana")


def test_a_server_takes_another_certificate_and_users_of_a_file(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    users = tmp_path / "users"
    users.write_text("ann:apple\n", "utf-8")
    files = ("--certificate", str(certificate), "--key", str(key), "--users", str(users))
    with running(3, "server", "--listen", "127.0.0.1", "--port", "0", "--tls-port", "0", *files) as server:
        udp = int(server.urls[0].split(":")[2].partition("?")[0])
        first = serial_of(certificate)
        assert serial(server.port) == first
        key.write_text("broken", "utf-8")
        assert server.rereads("not used, what was before stays")
        assert serial(server.port) == first
        make_certificate(tmp_path)
        users.write_text("bob:banana\n", "utf-8")
        assert server.rereads("files of the command line: read again")
        assert serial(server.port) == serial_of(certificate) != first
        assert allocates(udp, "bob", "banana") and not allocates(udp, "ann", "apple")


def test_a_rendezvous_follows_its_policy_and_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    path = tmp_path / "policy.yaml"
    policy = f"rendezvous:\n  host: 127.0.0.1\n  port: 0\n  certificate: {certificate}\n  key: {key}\n"
    path.write_text(policy, "utf-8")
    with running(1, "rendezvous", "--policy", str(path)) as server:
        assert server.urls[0].startswith("wss://127.0.0.1:")
        assert serial(server.port) == serial_of(certificate)
        make_certificate(tmp_path)
        assert server.tells(f"{path}: read again")  # by itself: only the certificate changed
        assert serial(server.port) == serial_of(certificate)
        path.write_text(f"{policy}  limits: {{burst: 0}}\n", "utf-8")
        assert server.rereads(f"{path}:6:19: rendezvous.limits.burst: 0 is out of range")
        path.write_text(policy.replace("127.0.0.1", "127.0.0.2"), "utf-8")
        assert server.rereads(f"{path}: read again")
        assert server.tells("needs a restart: host")


def test_a_rendezvous_heeds_new_limits_and_its_options(tmp_path: Path) -> None:
    async def refused(url: str) -> bool:
        async with open_line(url):
            try:
                async with open_line(url):
                    return False
            except RendezvousError as error:
                return error.reason is Refusal.FULL

    path = tmp_path / "policy.yaml"
    path.write_text("rendezvous: {host: 127.0.0.1, port: 1}\n", "utf-8")
    with running(1, "rendezvous", "--policy", str(path), "--port", "0") as server:
        assert not asyncio.run(refused(server.urls[0]))
        path.write_text("rendezvous: {host: 127.0.0.1, port: 2, limits: {connections_per_host: 1}}\n", "utf-8")
        assert server.rereads(f"{path}: read again")
        assert asyncio.run(refused(server.urls[0]))


def test_a_certificate_that_a_new_policy_names_is_watched(tmp_path: Path) -> None:
    path, first, second = tmp_path / "policy.yaml", tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        make_certificate(directory)

    def policy(directory: Path) -> str:
        files = f"  certificate: {directory / 'certificate.pem'}\n  key: {directory / 'key.pem'}\n"
        return f"{SERVER}  tls_port: 0\n{files}"

    path.write_text(policy(first), "utf-8")
    with running(2, "server", "--policy", str(path)) as server:
        path.write_text(policy(second), "utf-8")
        assert server.rereads(f"{path}: read again")
        assert serial(server.port) == serial_of(second / "certificate.pem")
        make_certificate(second)
        assert server.tells(f"{path}: read again")
        assert serial(server.port) == serial_of(second / "certificate.pem")


@pytest.mark.parametrize("command", ["server", "rendezvous"])
def test_a_policy_that_cannot_be_used_is_a_misuse(command: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"{command}: {{prot: 1}}\n", "utf-8")
    result = CliRunner().invoke(main, [command, "--policy", str(path)])
    assert result.exit_code == 2
    assert f"{path}:1:" in result.output and "did you mean 'port'?" in result.output


@pytest.mark.parametrize("command", ["server", "rendezvous"])
def test_a_certificate_that_cannot_be_used_is_told(command: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"{command}: {{port: 0, certificate: {tmp_path / 'none.pem'}}}\n", "utf-8")
    result = CliRunner().invoke(main, [command, "--policy", str(path)])
    assert result.exit_code == 1
    assert "none.pem or its key cannot be read: No such file or directory" in result.output
