"""The servers of an `RTCConfiguration` as entries of a policy: all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aiortc import RTCIceGatherer, RTCIceServer

from candidates.policy import Policy, ServerPolicy, parse_server_uri

logger = logging.getLogger(__name__)


def with_servers(policy: Policy, servers: list[RTCIceServer] | None) -> Policy:
    """``policy`` with the servers before its own; None means aiortc's default, unless the policy has servers.

    Raises ValueError for a malformed URL.
    """
    if servers is None:
        servers = [] if policy.servers or policy.lite else RTCIceGatherer.getDefaultIceServers()
    entries = [entry for server in servers for entry in _entries(server)]
    return policy.revised(servers=[*entries, *policy.servers]) if entries else policy


def _entries(server: RTCIceServer) -> Iterable[ServerPolicy]:
    urls = server.urls if isinstance(server.urls, list) else [server.urls]
    for url in urls:
        try:
            uri = parse_server_uri(url)
        except ValueError as error:
            raise ValueError(f"malformed uri: {error}") from None
        if not uri.scheme.relays:
            yield ServerPolicy(url=uri)
        elif server.credentialType != "password" or not (server.username and server.credential):
            logger.warning("%s is left out: it needs a user name and a password", uri)
        else:
            yield ServerPolicy.model_validate({"url": uri, "username": server.username, "password": server.credential})
