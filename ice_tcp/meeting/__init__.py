"""Two who share a code, and nothing else, get an encrypted stream between their hosts.

They meet at a rendezvous (`ice_tcp.rendezvous`), agree on keys with the code's secret, tell each other candidates
through the channel that this seals, connect by ICE, and open QUIC with certificates that were pinned the same way.
Neither the rendezvous nor a relay can read or join. Needs the extra ``rendezvous``.
"""

try:
    import spake2  # noqa: F401 - only whether it is there
except ImportError as error:
    raise ImportError("meetings need spake2: pip install 'ice-tcp[rendezvous]'", name=error.name) from error

from ice_tcp.meeting.code import Code, CodeError
from ice_tcp.meeting.meeting import Meeting, await_peer, connect, listen, meet, reach_peer
from ice_tcp.meeting.sealed import MeetingError, SealedChannel, TamperedError, WrongCodeError

__all__ = [
    "Code",
    "CodeError",
    "Meeting",
    "MeetingError",
    "SealedChannel",
    "TamperedError",
    "WrongCodeError",
    "await_peer",
    "connect",
    "listen",
    "meet",
    "reach_peer",
]
