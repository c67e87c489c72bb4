"""Application data and STUN on one socket or one connection: split, told apart, queued. No I/O.

A `StreamPath` lives as long as its TCP connection to a peer, a `DatagramPath` as long as its UDP socket, a
`StreamLegPath` or a `DatagramLegPath` as long as the leg to a TURN server, which leads to many peers. All hand STUN
to the core and data to the application; data of a path that nobody authenticated yet waits, bounded, for ``admit``.
"""

from ice_tcp.datapath.datagram import DatagramPath
from ice_tcp.datapath.relay import (
    MAX_RELAYED_BYTES,
    Address,
    DatagramLegPath,
    FromLeg,
    LegMessage,
    RelayedPeer,
    RelayedPeers,
    StreamLegPath,
)
from ice_tcp.datapath.stream import CHUNK_BYTES, STUN_QUEUE_BYTES, StreamFault, StreamPath, stream_chunks
from ice_tcp.datapath.traffic import Received, Traffic

__all__ = [
    "CHUNK_BYTES",
    "MAX_RELAYED_BYTES",
    "STUN_QUEUE_BYTES",
    "Address",
    "DatagramLegPath",
    "DatagramPath",
    "FromLeg",
    "LegMessage",
    "Received",
    "RelayedPeer",
    "RelayedPeers",
    "StreamFault",
    "StreamLegPath",
    "StreamPath",
    "Traffic",
    "stream_chunks",
]
