"""aiortc on our agent: data channels and media over UDP and TCP, with itself and with aiortc as it is."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import aiortc
import pytest
from aiortc.contrib.media import MediaBlackhole
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from candidates.policy import Policy
from ice_tcp.compat import aiortc as compat
from ice_tcp.compat.aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceCandidatePairStats,
    RTCIceCandidateStats,
    RTCIceGatherer,
    RTCIceServer,
    RTCIceTransport,
    RTCIceTransportPolicy,
    RTCIceTransportStats,
    RTCPeerConnection,
    RTCSessionDescription,
    RTCTransportStats,
    seam,
)
from ice_tcp.compat.aiortc.servers import with_servers
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions
from tests.agents import SO, TCP, UDP, policy
from tests.connections import HOST, loopback
from tests.peer_connections import (
    MAKES,
    Messages,
    negotiate,
    open_channel,
    peer_connection,
    peer_connections,
    run,
    state,
)

__all__ = ["loopback"]

pytestmark = pytest.mark.usefixtures("loopback")

EVERY_MAKE = pytest.mark.parametrize("makes", MAKES.values(), ids=MAKES)


# The same names


def test_everything_that_aiortc_exports_is_here() -> None:
    assert set(aiortc.__all__) <= set(compat.__all__)
    ours = {name for name in aiortc.__all__ if getattr(compat, name) is not getattr(aiortc, name)}
    assert ours == {"RTCIceGatherer", "RTCPeerConnection"}
    for name in ours:
        assert issubclass(getattr(compat, name), getattr(aiortc, name))


# Data channels


@EVERY_MAKE
def test_a_data_channel_echoes(makes: tuple[str, str]) -> None:
    async def main() -> None:
        async with peer_connections(makes) as (one, two):
            channel = await open_channel(one, two)
            messages = Messages(channel)
            for message in ("text", b"bytes", random.Random(1).randbytes(60_000)):
                channel.send(message)
                assert await messages.next() == message
            assert one.iceConnectionState == two.iceConnectionState == "completed"
            assert one.connectionState == two.connectionState == "connected"

    run(main())


@pytest.mark.parametrize("kind", [UDP, TCP, SO], ids=["udp", "tcp", "so"])
def test_megabytes_arrive_in_order(kind: str) -> None:
    blocks = [random.Random(number).randbytes(16_000) for number in range(100)]

    async def main() -> None:
        async with peer_connections((kind, kind)) as (one, two):
            channel = await open_channel(one, two)
            messages = Messages(channel)
            for block in blocks:
                channel.send(block)
            for block in blocks:
                assert await messages.next() == block

    run(main())


@EVERY_MAKE
@pytest.mark.parametrize("closing", [0, 1], ids=["offering", "answering"])
def test_closing_one_side_is_noticed_by_the_other(makes: tuple[str, str], closing: int) -> None:
    async def main() -> None:
        async with peer_connections(makes) as both:
            await open_channel(*both)
            await both[closing].close()
            assert both[closing].iceConnectionState == "closed"
            await state(both[1 - closing], "closed")

    run(main())


# Media


@EVERY_MAKE
def test_sound_and_pictures_arrive_in_both_directions(makes: tuple[str, str]) -> None:
    async def main() -> None:
        async with peer_connections(makes) as both:
            heard: list[asyncio.Queue[Any]] = [asyncio.Queue(), asyncio.Queue()]
            for connection, tracks in zip(both, heard, strict=True):
                connection.on("track", tracks.put_nowait)
                connection.addTrack(AudioStreamTrack())
                connection.addTrack(VideoStreamTrack())
            await negotiate(*both)
            for tracks in heard:
                received = {track.kind: track for track in (await tracks.get(), await tracks.get())}
                assert (await received["audio"].recv()).sample_rate == 48_000
                frame = await received["video"].recv()
                assert (frame.width, frame.height) == (640, 480)

    run(main())


@pytest.mark.parametrize("bundle", list(RTCBundlePolicy))
def test_transports_are_bundled_as_the_configuration_says(bundle: RTCBundlePolicy) -> None:
    async def main() -> None:
        configuration = RTCConfiguration(iceServers=[], bundlePolicy=bundle)
        async with peer_connections((TCP, TCP), configuration) as (one, two):
            sink = MediaBlackhole()
            two.on("track", sink.addTrack)
            one.addTrack(AudioStreamTrack())
            one.addTransceiver("video", direction="recvonly")
            await open_channel(one, two)
            await state(one, "connected")
            await state(two, "connected")

    run(main())


def test_a_second_negotiation_adds_to_the_first() -> None:
    async def main() -> None:
        async with peer_connections((TCP, TCP)) as (one, two):
            channel = await open_channel(one, two)
            tracks: asyncio.Queue[Any] = asyncio.Queue()
            two.on("track", tracks.put_nowait)
            one.addTrack(AudioStreamTrack())
            await negotiate(one, two)
            assert (await (await tracks.get()).recv()).sample_rate == 48_000
            messages = Messages(channel)
            channel.send("still there")
            assert await messages.next() == "still there"

    run(main())


# Signaling


def test_udp_comes_first_in_the_description_and_tcp_follows() -> None:
    async def main() -> None:
        async with peer_connections(("", "")) as (one, _):
            one.createDataChannel("x")
            await one.setLocalDescription(await one.createOffer())
            lines = one.localDescription.sdp.splitlines()
            told = [line.split() for line in lines if line.startswith("a=candidate")]
            assert [fields[2] for fields in told] == ["udp", "tcp", "tcp", "tcp"]
            assert {tuple(fields[8:10]) for fields in told[1:]} == {
                ("tcptype", "active"),
                ("tcptype", "passive"),
                ("tcptype", "so"),
            }
            port = told[0][5]
            assert f"m=application {port} UDP/DTLS/SCTP webrtc-datachannel" in lines

    run(main())


def test_candidates_may_be_trickled_to_us() -> None:
    async def main() -> None:
        async with peer_connections((TCP, TCP)) as (one, two):
            channel = one.createDataChannel("x")
            opened = asyncio.Event()
            channel.on("open", opened.set)
            await one.setLocalDescription(await one.createOffer())
            offer = one.localDescription
            lines = offer.sdp.splitlines(keepends=True)
            trickled = [line for line in lines if line.startswith(("a=candidate", "a=end-of"))]
            rest = "".join(line for line in lines if line not in trickled)
            await two.setRemoteDescription(RTCSessionDescription(rest, "offer"))
            await two.setLocalDescription(await two.createAnswer())
            await one.setRemoteDescription(two.localDescription)
            for line in trickled[:-1]:
                candidate = aiortc.sdp.candidate_from_sdp(line.strip().removeprefix("a=candidate:"))
                candidate.sdpMid = "0"
                await two.addIceCandidate(candidate)
            await two.addIceCandidate(None)
            await opened.wait()

    run(main())


def test_a_peer_that_never_answers_fails_the_connection() -> None:
    async def main() -> None:
        impatient = UDP + "timeouts: {patience: 0.2}\nnomination: {grace: 0.1}\n"
        one, two = peer_connection(impatient), peer_connection(impatient)
        one.createDataChannel("x")
        await one.setLocalDescription(await one.createOffer())
        await two.setRemoteDescription(one.localDescription)
        await two.setLocalDescription(await two.createAnswer())
        answer = two.localDescription
        await two.close()
        lines = answer.sdp.splitlines(keepends=True)
        without = "".join(line for line in lines if not line.startswith("a=candidate"))
        await one.setRemoteDescription(RTCSessionDescription(without, "answer"))
        await state(one, "failed")
        await one.close()

    run(main())


# ORTC


@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_the_ortc_classes_carry_data(kind: str) -> None:
    async def main() -> None:
        gatherers = [RTCIceGatherer([], policy=policy(kind)) for _ in range(2)]
        one, two = (RTCIceTransport(gatherer) for gatherer in gatherers)
        for gatherer in gatherers:
            await gatherer.gather()
            assert gatherer.state == "completed"
        for transport, other in ((one, two), (two, one)):
            for candidate in other.iceGatherer.getLocalCandidates():
                await transport.addRemoteCandidate(candidate)
            await transport.addRemoteCandidate(None)
        seam.connection_of(one).ice_controlling = True  # type: ignore[union-attr] # as aiortc does
        await asyncio.gather(
            one.start(two.iceGatherer.getLocalParameters()), two.start(one.iceGatherer.getLocalParameters())
        )
        assert (one.role, two.role) == ("controlling", "controlled")
        assert one.state == two.state == "completed"
        certificate = aiortc.RTCCertificate.generateCertificate()
        secure = [RTCDtlsTransport(ice, [certificate]) for ice in (one, two)]
        await asyncio.gather(
            secure[0].start(secure[1].getLocalParameters()), secure[1].start(secure[0].getLocalParameters())
        )
        assert [each.state for each in secure] == ["connected", "connected"]
        for each in secure:
            await each.stop()
            await each.transport.stop()
        assert one.state == two.state == "closed"

    run(main())


# Statistics


@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_statistics_name_the_selected_pair_and_what_it_runs_over(kind: str) -> None:
    async def main() -> None:
        async with peer_connections((kind, kind)) as (one, two):
            channel = await open_channel(one, two)
            messages = Messages(channel)
            channel.send(bytes(5000))
            await messages.next()
            report = await one.getStats()
            (transport,) = (each for each in report.values() if isinstance(each, RTCIceTransportStats))
            assert isinstance(transport, RTCTransportStats)
            assert transport.protocol == ("udp" if kind == UDP else "tcp")
            assert transport.relayed is False
            assert transport.iceRole == "controlling"
            assert transport.selectedCandidatePairId is not None
            pair = report[transport.selectedCandidatePairId]
            assert isinstance(pair, RTCIceCandidatePairStats)
            assert (pair.state, pair.nominated, pair.relayed) == ("succeeded", True, False)
            assert pair.bytesSent >= 5000 <= pair.bytesReceived
            assert pair.requestsSent > 0 < pair.responsesReceived
            for key, kind_of in ((pair.localCandidateId, "local"), (pair.remoteCandidateId, "remote")):
                candidate = report[key]
                assert isinstance(candidate, RTCIceCandidateStats)
                assert candidate.type == f"{kind_of}-candidate"
                assert (candidate.address, candidate.protocol) == (HOST, transport.protocol)

    run(main())


def test_statistics_of_a_connection_that_has_not_begun_name_no_pair() -> None:
    async def main() -> None:
        async with peer_connections((UDP, UDP)) as (one, _):
            one.createDataChannel("x")
            (transport,) = (await one.getStats()).values()
            assert isinstance(transport, RTCIceTransportStats)
            assert (transport.selectedCandidatePairId, transport.protocol, transport.relayed) == (None, None, None)

    run(main())


# Servers


def test_a_connection_over_a_relay_says_so() -> None:
    options = ServerOptions(hosts=(HOST,), port=0, users={"user": "pass"}, peers=PeerPolicy(loopback=True))

    async def main() -> None:
        async with Server(options) as server:
            host, port = server.address(Leg.UDP)
            relay = RTCIceServer(f"turn:{host}:{port}?transport=udp", "user", "pass")
            configuration = RTCConfiguration([relay], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
            one, two = peer_connection(UDP, configuration), peer_connection(UDP)
            await open_channel(one, two)
            for connection in (one, two):
                (transport,) = (
                    each for each in (await connection.getStats()).values() if isinstance(each, RTCIceTransportStats)
                )
                assert transport.relayed is True
            assert "typ host" not in one.localDescription.sdp
            assert "typ relay" in one.localDescription.sdp
            await one.close()
            await two.close()

    run(main())


def test_every_server_of_the_configuration_is_asked() -> None:
    base = policy("servers: [{url: 'stun:192.0.2.1'}]\n")
    servers = [
        RTCIceServer("stun:192.0.2.2"),
        RTCIceServer(["stun:192.0.2.3", "turn:192.0.2.4?transport=tcp"], "user", "pass"),
        RTCIceServer(["turn:[2001:db8::7]:443", "turns:turn.example.org"], "other", "word"),
    ]
    asked = with_servers(base, servers).servers
    assert [str(each.url) for each in asked] == [
        "stun:192.0.2.2",
        "stun:192.0.2.3",
        "turn:192.0.2.4?transport=tcp",
        "turn:[2001:db8::7]:443",
        "turns:turn.example.org?transport=tcp",
        "stun:192.0.2.1",
    ]
    passwords = [each.password and each.password.get_secret_value() for each in asked]
    assert passwords == [None, None, "pass", "word", "word", None]


def test_without_servers_in_the_configuration_the_policys_or_aiortcs_are_asked() -> None:
    own = policy("servers: [{url: 'stun:192.0.2.1'}]\n")
    assert with_servers(own, None) is own
    assert with_servers(policy(), []) == policy()
    (default,) = aiortc.RTCIceGatherer.getDefaultIceServers()
    assert [str(each.url) for each in with_servers(Policy.default(), None).servers] == [default.urls]


@pytest.mark.parametrize("url", ["http:192.0.2.1", "stun:", "stun:192.0.2.1?transport=udp", "turn://192.0.2.1"])
def test_a_malformed_url_is_misuse(url: str) -> None:
    configuration = RTCConfiguration([RTCIceServer(url, "user", "pass")])
    with pytest.raises(ValueError, match="malformed uri"):
        RTCPeerConnection(configuration)
    with pytest.raises(ValueError, match="malformed uri"):
        RTCIceGatherer(configuration.iceServers)


@pytest.mark.parametrize(
    "server",
    [
        RTCIceServer("turn:192.0.2.4"),
        RTCIceServer("turn:192.0.2.4", "user"),
        RTCIceServer("turn:192.0.2.4", "user", "pass", credentialType="oauth"),
    ],
)
def test_a_turn_server_without_a_password_is_left_out_with_a_word(
    server: RTCIceServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert with_servers(policy(), [server]).servers == ()
    assert "turn:192.0.2.4 is left out" in caplog.text


# The seam


def test_the_installed_aiortc_fits() -> None:
    seam.check()
    assert aiortc.__version__.startswith(f"{seam.KNOWN}.")


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (aiortc.RTCPeerConnection, "_RTCPeerConnection__createDtlsTransport", "__createDtlsTransport"),
        (aiortc.RTCDtlsTransport, "_get_stats", "_get_stats"),
    ],
)
def test_an_aiortc_that_does_not_fit_fails_with_a_clear_error(
    owner: type, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(ImportError, match=rf"written for aiortc 1\.16; aiortc 1\.16.* is installed.*{told}"):
        seam.check()


def test_transports_that_keep_their_connection_elsewhere_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gatherer:
        def __init__(self, _: object) -> None: ...

    class Transport:
        def __init__(self, gatherer: aiortc.RTCIceGatherer) -> None:
            self._connection = seam.connection_of
            self._recv = gatherer._connection.recv  # noqa: SLF001 - what the seam looks at

    with monkeypatch.context() as patch:
        patch.setattr(aiortc, "RTCIceTransport", Transport)
        with pytest.raises(ImportError, match=r"RTCIceTransport\._connection, RTCIceTransport\._send"):
            seam.check()
    monkeypatch.setattr(aiortc, "RTCIceGatherer", Gatherer)
    with pytest.raises(ImportError, match=r"RTCIceGatherer\._connection"):
        seam.check()


def test_aiortc_itself_is_left_as_it_is() -> None:
    async def main() -> None:
        async with peer_connections(("", "stock")) as (one, two):
            one.createDataChannel("x")
            two.createDataChannel("x")
            assert one.sctp is not None
            assert two.sctp is not None
            assert seam.connection_of(one.sctp.transport.transport) is not None
            assert seam.connection_of(two.sctp.transport.transport) is None

    run(main())
