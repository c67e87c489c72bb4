"""coturn's own clients against the embedded server, and short looks at coturn itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from ice_tcp.server import Leg, Limits, PeerPolicy, Server, ServerOptions, short_lived_password
from ice_tcp.stun import MessageClass, Method, requested_transport
from interop.coturn import Coturn, free_ports, tool
from tests.server_clients import AttributeMaker, Client, StreamClient, UdpClient, make_certificate, peer
from tests.test_server_sockets import client_tls, server_tls

pytestmark = pytest.mark.interop

MESSAGES = 10
TIMEOUT = 60.0


async def output(program: str, *arguments: str) -> str:
    """What a program of coturn's prints; the test fails if it does not succeed."""
    process = await asyncio.create_subprocess_exec(
        tool(program), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = printed.decode(errors="replace")
    assert process.returncode == 0, text
    return text


class Echo(asyncio.DatagramProtocol):
    """The peer that turnutils_uclient wants, as turnutils_peer would be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def uclient(
    server: Server, *arguments: str, leg: Leg = Leg.UDP, host: str = "127.0.0.1", bob: bool = True
) -> str:
    """Run turnutils_uclient against the server, with echoes at ``host`` for its peers."""
    loop, ports = asyncio.get_running_loop(), free_ports(host)
    # The second one is for RTCP.
    echoes = [(await loop.create_datagram_endpoint(Echo, local_addr=(host, port)))[0] for port in ports]
    try:
        address, port = server.address(leg)
        return await output(
            "turnutils_uclient",
            *arguments,
            *(("-u", "user", "-w", "pass") if bob else ("-u", "user")),
            *("-e", host, "-r", str(ports[0])),
            *("-n", str(MESSAGES), "-z", "5", "-p", str(port), address),
        )
    finally:
        for echo in echoes:
            echo.close()


def lost(text: str) -> float:
    """The share of packets that uclient lost, in per cent."""
    found = re.search(r"Total lost packets \d+ \(([\d.]+)%\)", text)
    assert found is not None, text
    sent = re.search(r"tot_send_msgs=(\d+), tot_recv_msgs=\d+\s", text)
    assert sent is not None and int(sent[1]) >= MESSAGES, text
    return float(found[1])


def server(**changes: object) -> Server:
    settings: dict[str, object] = {
        "port": 0,
        "users": {"user": "pass"},
        "peers": PeerPolicy(loopback=True),
        # turnutils_uclient chooses its channels as RFC 5766 allowed.
        "legacy_channels": True,
        **changes,
    }
    return Server(ServerOptions(**settings))  # type: ignore[arg-type]


async def losses(running: Server, runs: Sequence[Sequence[str]], leg: Leg = Leg.UDP) -> dict[str, float]:
    """What each run lost; they run side by side, for uclient mostly waits."""
    texts = await asyncio.gather(*(uclient(running, "-v", *arguments, leg=leg) for arguments in runs))
    return {" ".join(arguments): lost(text) for arguments, text in zip(runs, texts, strict=True)}


def test_uclient() -> None:
    runs = [
        [],
        ["-s"],  # Send indications
        ["-t"],
        ["-t", "-s"],
        ["-g"],  # DONT-FRAGMENT
        ["-D", "-G"],  # padded ChannelData, more permissions and channels
        ["-y"],  # relay to relay
        ["-y", "-t"],
        ["-c"],  # no RTCP, so no reservation
        ["-T"],  # RFC 6062, Connect
    ]

    async def scenario() -> None:
        async with server(limits=Limits(allocations_per_user=100)) as running:
            assert await losses(running, runs) == {" ".join(arguments): 0 for arguments in runs}

    asyncio.run(scenario())


def test_uclient_over_tls(tmp_path: Path) -> None:
    async def scenario() -> None:
        certificate = make_certificate(tmp_path)
        options = ServerOptions(
            port=None,
            tls_port=0,
            users={"user": "pass"},
            peers=PeerPolicy(loopback=True),
            legacy_channels=True,
        )
        async with Server(options, tls=server_tls(certificate)) as running:
            assert await losses(running, [["-t", "-S"], ["-T", "-S"]], Leg.TLS) == {"-t -S": 0, "-T -S": 0}

    asyncio.run(scenario())


def test_uclient_of_ipv6() -> None:
    # Not of both families: its -Z asks for one of them only, and refreshes the other now and then.
    async def scenario() -> None:
        async with server(hosts=("127.0.0.1", "::1")) as running:
            assert lost(await uclient(running, "-v", "-x", host="::1")) == 0

    asyncio.run(scenario())


def test_uclient_with_a_shared_secret() -> None:
    async def scenario() -> None:
        async with server(users={}, shared_secret="sesame") as running:
            assert lost(await uclient(running, "-v", "-W", "sesame", bob=False)) == 0

    asyncio.run(scenario())


def test_stunclient_and_natdiscovery() -> None:
    async def scenario() -> None:
        async with server(hosts=("127.0.0.1", "127.0.0.2"), alternate_port=0, users={}) as running:
            host, port = running.address(Leg.UDP)
            text = await output("turnutils_stunclient", "-f", "-p", str(port), host)
            assert text.count("UDP reflexive addr: 127.0.0.1:") == 3
            text = await output("turnutils_natdiscovery", "-m", "-f", "-p", str(port), host)
            assert "NAT with Endpoint Independent Mapping!" in text
            assert "NAT with Endpoint Independent Filtering!" in text
            assert "No ALG: Mapped == XOR-Mapped" in text

    asyncio.run(scenario())


# coturn, as the tests of the client use it


def test_coturn_serves_on_every_leg(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)

    async def scenario(coturn: Coturn) -> None:
        by_udp = UdpClient(coturn.address)
        assert (await by_udp.allocate(17))[0] == "127.0.0.1"
        by_udp.close()
        for address, tls in ((coturn.address, None), (coturn.tls_address, client_tls(certificate))):
            client = await StreamClient.connect(address, tls)
            assert (await client.allocate(6))[0] == "127.0.0.1"
            client.close()

    with Coturn(tmp_path, certificate=certificate) as coturn:
        asyncio.run(scenario(coturn))


def test_coturn_is_killed_and_started_again(tmp_path: Path) -> None:
    async def binding(coturn: Coturn) -> MessageClass:
        client = UdpClient(coturn.address)
        try:
            return (await client.ask(Method.BINDING)).message_class
        finally:
            client.close()

    with Coturn(tmp_path) as coturn:
        before = coturn.pid
        coturn.kill()
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(binding(coturn))
        coturn.start()
        assert coturn.pid != before
        assert asyncio.run(binding(coturn)) is MessageClass.SUCCESS


def test_coturn_knows_our_short_lived_passwords(tmp_path: Path) -> None:
    name = f"{int(time.time()) + 600}:ann"

    async def scenario(coturn: Coturn) -> None:
        client = UdpClient(coturn.address, name, short_lived_password("sesame", name))
        await client.allocate(17)
        client.close()
        late = UdpClient(coturn.address, "1000000000:ann", short_lived_password("sesame", "1000000000:ann"))
        late.challenge = await late.ask(Method.ALLOCATE, requested_transport(17))
        response = await late.ask(Method.ALLOCATE, requested_transport(17))
        assert response.error_code is not None and response.error_code.code == 401
        late.close()

    with Coturn(tmp_path, secret="sesame") as coturn:
        asyncio.run(scenario(coturn))


PAGE = Path(__file__).parent.parent / "docs" / "servers.md"


def documented_configuration(directory: Path, coturn: Coturn, certificate: tuple[Path, Path]) -> Sequence[str]:
    """The configuration on the page about servers, at home here."""
    (text,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    here = {
        "listening-ip=192.0.2.10": "listening-ip=127.0.0.1",
        "relay-ip=192.0.2.10": "relay-ip=127.0.0.1",
        "listening-port=3478": f"listening-port={coturn.port}",
        "tls-listening-port=443": f"tls-listening-port={coturn.tls_port}",
        "cert=/etc/coturn/fullchain.pem": f"cert={certificate[0]}",
        "pkey=/etc/coturn/privkey.pem": f"pkey={certificate[1]}",
        "static-auth-secret=REPLACE-BY-A-LONG-RANDOM-TEXT": "static-auth-secret=sesame",
        "pidfile=/run/turnserver/turnserver.pid": f"pidfile={directory / 'turnserver.pid'}",
    }
    for documented, ours in here.items():
        assert f"\n{documented}\n" in text, documented
        text = text.replace(f"\n{documented}\n", f"\n{ours}\n")
    return [*text.splitlines(), f"userdb={directory / 'turndb'}"]


def test_the_documented_configuration_works(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    coturn = Coturn(tmp_path)
    coturn.configure(documented_configuration(tmp_path, coturn, certificate))
    name = f"{int(time.time()) + 600}:ann"
    password = short_lived_password("sesame", name)

    async def refused(client: Client, method: Method, *attributes: AttributeMaker) -> int | None:
        error = (await client.ask(method, *attributes)).error_code
        return error.code if error else None

    async def scenario() -> None:
        clients: list[Client] = []
        for address, tls in ((coturn.address, None), (coturn.tls_address, client_tls(certificate))):
            clients.append(await StreamClient.connect(address, tls))
        for client in (UdpClient(coturn.address), *clients):
            client.name, client.password = name, password
            host, port = await client.allocate(17)
            assert host == "127.0.0.1" and 49152 <= port <= 65535
            for forbidden in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"):
                assert await refused(client, Method.CREATE_PERMISSION, peer((forbidden, 80))) == 403
            assert await refused(client, Method.CREATE_PERMISSION, peer(("203.0.113.1", 80))) is None
            client.close()

    with coturn:
        asyncio.run(scenario())
    complaints = [line for line in coturn.log().splitlines() if "ERROR" in line or "Bad configuration" in line]
    assert [line for line in complaints if "denied in the range" not in line] == []


def test_coturn_sends_clients_to_the_documented_alternates(tmp_path: Path) -> None:
    lines = re.findall(r"^alternate-server=.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    async def scenario(coturn: Coturn) -> list[tuple[str, int] | None]:
        servers = []
        for _ in lines:
            client = UdpClient(coturn.address)
            response = await client.ask(Method.ALLOCATE, requested_transport(17))
            assert response.error_code is not None and response.error_code.code == 300
            servers.append(response.alternate_server)
            client.close()
        return servers

    with Coturn(tmp_path, extra=lines) as coturn:
        found = asyncio.run(scenario(coturn))
    assert found[0] is not None  # which of them depends on the thread that has the client
    assert set(found) <= {("192.0.2.11", 3478), ("192.0.2.12", 3478)}
