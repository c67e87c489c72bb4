"""The one place that touches what aiortc keeps private: how its transports get our `Connection`.

aiortc 1.16 makes the connection of a transport itself and takes no other. `docs/upstream.md` proposes an argument for
it. Until there is one, these names are used, and `check` sees that the installed aiortc has them:

- ``RTCIceGatherer._connection``, an ``aioice.Connection`` made in the constructor;
- ``RTCIceTransport._connection``, the gatherer's, and its bound methods ``_recv`` and ``_send``;
- ``RTCPeerConnection.__createDtlsTransport``, where a peer connection makes the three transports;
- ``RTCDtlsTransport._get_stats``, the statistics of a transport without media.

Objects are changed, never the installed classes.
"""

from __future__ import annotations

from typing import Any, Final, cast

import aioice
import aiortc

from ice_tcp.compat.aioice import Connection

KNOWN: Final = "1.16"
"""The release that this was written for."""

CREATE_DTLS_TRANSPORT: Final = "_RTCPeerConnection__createDtlsTransport"


def check() -> None:
    """Raises ImportError if the installed aiortc keeps these things elsewhere."""
    gatherer = aiortc.RTCIceGatherer([])
    missing = [
        name
        for name, there in (
            ("RTCPeerConnection.__createDtlsTransport", hasattr(aiortc.RTCPeerConnection, CREATE_DTLS_TRANSPORT)),
            ("RTCDtlsTransport._get_stats", hasattr(aiortc.RTCDtlsTransport, "_get_stats")),
            ("RTCIceGatherer._connection", isinstance(getattr(gatherer, "_connection", None), aioice.Connection)),
        )
        if not there
    ]
    if "RTCIceGatherer._connection" not in missing:
        transport: Any = aiortc.RTCIceTransport(gatherer)
        held = {name: getattr(transport, name, None) for name in ("_connection", "_recv", "_send")}
        wanted = _held(gatherer._connection)
        missing += [f"RTCIceTransport.{name}" for name in held if held[name] != wanted[name]]
    if missing:
        raise ImportError(
            f"ice_tcp.compat.aiortc was written for aiortc {KNOWN}; aiortc {aiortc.__version__} is installed, and does "
            f"not have {', '.join(missing)} as expected. Install aiortc {KNOWN}, or an ice-tcp that knows this one.",
            name="aiortc",
        )


def give(gatherer: aiortc.RTCIceGatherer, connection: Connection) -> None:
    """Let a gatherer that has not begun use our connection."""
    gatherer._connection = cast("aioice.Connection", connection)


def give_transport(transport: aiortc.RTCIceTransport, connection: Connection) -> None:
    """Let a transport that has not begun, and its gatherer, use our connection."""
    give(transport.iceGatherer, connection)
    for name, value in _held(connection).items():
        setattr(transport, name, value)


def connection_of(transport: aiortc.RTCIceTransport) -> Connection | None:
    """Our connection below a transport; None if it is aioice's."""
    connection: object = transport._connection
    return connection if isinstance(connection, Connection) else None


def transport_stats(transport: aiortc.RTCDtlsTransport) -> aiortc.RTCTransportStats:
    """What aiortc counts of a transport."""
    (stats,) = transport._get_stats().values()
    assert isinstance(stats, aiortc.RTCTransportStats)
    return stats


def _held(connection: Connection | aioice.Connection) -> dict[str, object]:
    return {"_connection": connection, "_recv": connection.recv, "_send": connection.send}
