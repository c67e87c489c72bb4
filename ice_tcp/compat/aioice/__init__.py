"""aioice's interface, with ICE over UDP and TCP below: ``from ice_tcp.compat.aioice import Candidate, Connection``.

Names, signatures, errors and event types are those of aioice 0.13; candidates and events are aioice's own classes.
What is new is the argument ``policy`` of `Connection`. It needs the extra ``aiortc``.
"""

try:
    from aioice import Candidate, ConnectionClosed, TransportPolicy
except ModuleNotFoundError as error:
    if error.name != "aioice":
        raise
    raise ModuleNotFoundError("aioice is missing: pip install 'ice-tcp[aiortc]'", name="aioice") from None

from ice_tcp.compat.aioice.connection import Connection

__all__ = ["Candidate", "Connection", "ConnectionClosed", "TransportPolicy"]
