"""TCP simultaneous open by itself, for peers that speak no ICE. Begin with `punch`, or with `PunchPort`."""

from ice_tcp.punching.moments import meet, next_minute, parse_moment
from ice_tcp.punching.port import PunchPort, Streams, punch
from ice_tcp.punching.secret import SecretError

__all__ = ["PunchPort", "SecretError", "Streams", "meet", "next_minute", "parse_moment", "punch"]
