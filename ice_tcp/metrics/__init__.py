"""Counters and timings for Prometheus (extra ``metrics``).

`AgentMetrics` watches agents, `ServerMetrics` an embedded server, `RendezvousMetrics` a rendezvous; each has a
``registry`` of its own unless it is given one. `serve` answers ``GET /metrics``. No label holds an address, a name, a
user or a code: all labels come from closed sets.
"""

try:
    import prometheus_client  # noqa: F401 - whether it is there
except ImportError:
    raise ImportError("metrics need Prometheus' client: pip install 'ice-tcp[metrics]'") from None

from ice_tcp.metrics.agents import AgentMetrics
from ice_tcp.metrics.exposition import serve
from ice_tcp.metrics.rendezvous import RendezvousMetrics
from ice_tcp.metrics.servers import ServerMetrics

__all__ = ["AgentMetrics", "RendezvousMetrics", "ServerMetrics", "serve"]
