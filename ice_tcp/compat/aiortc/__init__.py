"""aiortc's interface, with ICE over UDP and TCP below: ``from ice_tcp.compat.aiortc import RTCPeerConnection``.

Everything that aiortc exports is here: `RTCPeerConnection` and `RTCIceGatherer` are ours, the rest is aiortc's own;
the statistics of pairs are new. It needs the extra ``aiortc``. An aiortc that it does not know fails at import.
"""

try:
    import aiortc  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "aiortc":
        raise
    raise ModuleNotFoundError("aiortc is missing: pip install 'ice-tcp[aiortc]'", name="aiortc") from None

from aiortc import (
    AudioStreamTrack,
    InvalidAccessError,
    InvalidStateError,
    MediaStreamError,
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCCertificate,
    RTCConfiguration,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceParameters,
    RTCIceServer,
    RTCIceTransport,
    RTCIceTransportPolicy,
    RTCInboundRtpStreamStats,
    RTCOutboundRtpStreamStats,
    RTCRemoteInboundRtpStreamStats,
    RTCRemoteOutboundRtpStreamStats,
    RTCRtcpParameters,
    RTCRtpCapabilities,
    RTCRtpCodecCapability,
    RTCRtpCodecParameters,
    RTCRtpContributingSource,
    RTCRtpHeaderExtensionCapability,
    RTCRtpHeaderExtensionParameters,
    RTCRtpParameters,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCRtpSynchronizationSource,
    RTCRtpTransceiver,
    RTCSctpCapabilities,
    RTCSctpTransport,
    RTCSessionDescription,
    RTCStatsReport,
    RTCTransportStats,
    VideoStreamTrack,
)

from ice_tcp.compat.aiortc import seam

seam.check()

from ice_tcp.compat.aiortc.peer_connection import RTCIceGatherer, RTCPeerConnection  # noqa: E402 - checked first
from ice_tcp.compat.aiortc.stats import (  # noqa: E402
    RTCIceCandidatePairStats,
    RTCIceCandidateStats,
    RTCIceTransportStats,
)

__all__ = [
    "AudioStreamTrack",
    "InvalidAccessError",
    "InvalidStateError",
    "MediaStreamError",
    "MediaStreamTrack",
    "RTCBundlePolicy",
    "RTCCertificate",
    "RTCConfiguration",
    "RTCDataChannel",
    "RTCDataChannelParameters",
    "RTCDtlsFingerprint",
    "RTCDtlsParameters",
    "RTCDtlsTransport",
    "RTCIceCandidate",
    "RTCIceCandidatePairStats",
    "RTCIceCandidateStats",
    "RTCIceGatherer",
    "RTCIceParameters",
    "RTCIceServer",
    "RTCIceTransport",
    "RTCIceTransportPolicy",
    "RTCIceTransportStats",
    "RTCInboundRtpStreamStats",
    "RTCOutboundRtpStreamStats",
    "RTCPeerConnection",
    "RTCRemoteInboundRtpStreamStats",
    "RTCRemoteOutboundRtpStreamStats",
    "RTCRtcpParameters",
    "RTCRtpCapabilities",
    "RTCRtpCodecCapability",
    "RTCRtpCodecParameters",
    "RTCRtpContributingSource",
    "RTCRtpHeaderExtensionCapability",
    "RTCRtpHeaderExtensionParameters",
    "RTCRtpParameters",
    "RTCRtpReceiver",
    "RTCRtpSender",
    "RTCRtpSynchronizationSource",
    "RTCRtpTransceiver",
    "RTCSctpCapabilities",
    "RTCSctpTransport",
    "RTCSessionDescription",
    "RTCStatsReport",
    "RTCTransportStats",
    "VideoStreamTrack",
]
