"""aiortc's `RTCPeerConnection` and `RTCIceGatherer`, with our connection below."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import aiortc
from aiortc import (
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCStatsReport,
)
from aiortc.rtcicetransport import ICE_TRANSPORT_POLICIES

from candidates.policy import Policy
from ice_tcp.compat.aioice import Connection
from ice_tcp.compat.aiortc import seam
from ice_tcp.compat.aiortc.servers import with_servers
from ice_tcp.compat.aiortc.stats import ice_stats


class RTCIceGatherer(aiortc.RTCIceGatherer):
    """aiortc's, for its ORTC classes: give it to an ``RTCIceTransport``.

    The arguments are aiortc's, and ``policy``, the default policy if None. Raises ValueError for a malformed URL.
    """

    def __init__(
        self,
        iceServers: list[RTCIceServer] | None = None,
        iceTransportPolicy: RTCIceTransportPolicy = RTCIceTransportPolicy.ALL,
        local_username: str | None = None,
        local_password: str | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        super().__init__([], iceTransportPolicy, local_username, local_password)
        policy = with_servers(policy or Policy.default(), iceServers)
        seam.give(self, _connection(self, iceTransportPolicy, policy))


class RTCPeerConnection(aiortc.RTCPeerConnection):
    """aiortc's, over UDP and TCP, with every server of the configuration.

    ``policy`` decides about candidates and paths, the default policy if None: UDP is preferred, and TCP candidates
    are there, too, unless it says ``transports: [udp]``. Its servers are asked beside those of the configuration.
    Raises ValueError for a malformed URL.
    """

    def __init__(self, configuration: RTCConfiguration | None = None, *, policy: Policy | None = None) -> None:
        configuration = configuration or RTCConfiguration()
        # aiortc would parse the URLs again, for its own connections, and does not know all of them.
        super().__init__(replace(configuration, iceServers=[]))
        self._ice_policy = with_servers(policy or Policy.default(), configuration.iceServers)
        self._ice_transport_policy = configuration.iceTransportPolicy

    async def getStats(self) -> RTCStatsReport:
        """aiortc's report, and in it each transport with its pairs and candidates.

        `RTCIceTransportStats` names the selected pair, and tells what it runs over and whether it is relayed.
        """
        report = await super().getStats()
        for transport in self._dtls_transports():
            for stats in ice_stats(transport):
                report.add(stats)
        return report

    def _dtls_transports(self) -> set[RTCDtlsTransport]:
        transports = {each.receiver.transport for each in self.getTransceivers()}
        return transports | ({self.sctp.transport} if self.sctp is not None else set())

    def _RTCPeerConnection__createDtlsTransport(self) -> RTCDtlsTransport:
        transport = cast("RTCDtlsTransport", getattr(super(), seam.CREATE_DTLS_TRANSPORT)())
        ice = transport.transport
        connection = _connection(ice.iceGatherer, self._ice_transport_policy, self._ice_policy)
        seam.give_transport(ice, connection)
        return transport


def _connection(gatherer: aiortc.RTCIceGatherer, transport_policy: RTCIceTransportPolicy, policy: Policy) -> Connection:
    """In place of the connection that the gatherer made, with its credentials: bundled transports share them."""
    parameters = gatherer.getLocalParameters()
    return Connection(
        False,
        transport_policy=ICE_TRANSPORT_POLICIES[transport_policy],
        local_username=parameters.usernameFragment,
        local_password=parameters.password,
        policy=policy,
    )
