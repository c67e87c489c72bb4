"""The policy that the arguments of a `Connection` amount to."""

from __future__ import annotations

import logging

from candidates.candidate import CandidateType, Transport, TransportAddress
from candidates.policy import AddressFamily, Policy, Scheme, ServerPolicy, ServerUri

Address = tuple[str, int]

logger = logging.getLogger(__name__)


def narrowed(
    policy: Policy, servers: list[ServerPolicy], *, families: list[AddressFamily], relay_only: bool
) -> Policy | None:
    """``policy`` with the servers of the arguments before its own, and without what the arguments rule out.

    None: nothing is left to gather.
    """
    servers = [*servers, *policy.servers]
    kept_families = [each for each in policy.address_families if each in families]
    types = [each for each in policy.candidate_types if each is CandidateType.RELAY or not relay_only]
    relays = any(server.relays for server in servers)
    if not kept_families or not types or (relay_only and not relays):
        return None
    timeouts = _timeouts(policy)
    return policy.revised(servers=servers, address_families=kept_families, candidate_types=types, timeouts=timeouts)


def _timeouts(policy: Policy) -> dict[str, object]:
    """As with aioice, a relay that does not answer takes no longer than anything else, unless the policy says so."""
    return {"relay": policy.timeouts.gather, **policy.timeouts.model_dump(exclude_unset=True)}


def stun(address: Address) -> list[ServerPolicy]:
    """A STUN server as an entry of the policy; none if it cannot be one."""
    return _server(Scheme.STUN, address, None, None, None)


def turn(
    address: Address, username: str | None, password: str | None, *, ssl: bool, transport: str
) -> list[ServerPolicy]:
    """A TURN server as an entry of the policy; none if it cannot be one. As in aioice, TLS is for TCP only."""
    scheme = Scheme.TURNS if ssl and transport == "tcp" else Scheme.TURN
    if not (username and password):
        logger.warning("TURN server %s is left out: it needs a user name and a password", address[0])
        return []
    return _server(scheme, address, transport, username, password)


def _server(
    scheme: Scheme, address: Address, transport: str | None, username: str | None, password: str | None
) -> list[ServerPolicy]:
    try:
        uri = ServerUri(scheme, TransportAddress(*address), Transport(transport) if transport is not None else None)
    except ValueError as error:
        logger.warning("Server %s is left out: %s", address, error)
        return []
    entry = ServerPolicy.model_validate({"url": uri, "username": username, "password": password})
    return [entry]
