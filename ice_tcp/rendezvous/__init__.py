"""Where two peers meet under a code, to tell each other what ICE must know: a small WebSocket server, and its client.

The server carries texts between the two sides of a mailbox, and keeps them no longer than the mailbox lives; peers seal
what they say (`ice_tcp.meeting`). A side whose connection is lost takes its mailbox up again, also on another instance
of the server if these share a store. Needs websockets, the extra ``rendezvous``.
"""

try:
    import websockets  # noqa: F401 - only whether it is there
except ImportError as error:
    raise ImportError("the rendezvous needs websockets: pip install 'ice-tcp[rendezvous]'", name=error.name) from error

from ice_tcp.rendezvous.client import Line, join_line, open_line
from ice_tcp.rendezvous.mailboxes import Mailboxes, MemoryMailboxes
from ice_tcp.rendezvous.protocol import Refusal, RendezvousError
from ice_tcp.rendezvous.server import Limits, RendezvousServer

__all__ = [
    "Limits",
    "Line",
    "Mailboxes",
    "MemoryMailboxes",
    "Refusal",
    "RendezvousError",
    "RendezvousServer",
    "join_line",
    "open_line",
]
