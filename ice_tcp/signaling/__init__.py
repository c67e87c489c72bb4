"""How two agents tell each other credentials and candidates: the messages, and a channel within one machine.

ICE does not say how signaling is done; applications bring their own. `messages` gives the shapes, `exchange` connects
an agent with any channel that carries them, `loopback` is the smallest channel: between two processes of one machine.
"""

from ice_tcp.signaling.channel import Channel, ChannelClosed, SignalingError
from ice_tcp.signaling.exchange import apply, tell
from ice_tcp.signaling.loopback import LoopbackRendezvous, connect_loopback
from ice_tcp.signaling.messages import (
    CandidateFound,
    Description,
    EndOfCandidates,
    Message,
    MessageError,
    Note,
    decode,
    encode,
)

__all__ = [
    "CandidateFound",
    "Channel",
    "ChannelClosed",
    "Description",
    "EndOfCandidates",
    "LoopbackRendezvous",
    "Message",
    "MessageError",
    "Note",
    "SignalingError",
    "apply",
    "connect_loopback",
    "decode",
    "encode",
    "tell",
]
