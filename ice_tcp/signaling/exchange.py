"""Between an agent and a channel: what the agent has goes out, what the peer says goes in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from candidates.candidate import Candidate
from candidates.parameters import IceParameters
from ice_tcp.signaling.messages import CandidateFound, Description, EndOfCandidates, Message, Note


class SignaledAgent(Protocol):
    """What signaling needs of an agent; see `ice_tcp.Agent`."""

    @property
    def local_parameters(self) -> IceParameters: ...
    def local_candidates(self) -> AsyncIterator[Candidate]: ...
    def set_remote_parameters(self, parameters: IceParameters) -> None: ...
    def add_remote_candidate(self, candidate: Candidate) -> None: ...
    def end_of_candidates(self) -> None: ...


class MessageSender(Protocol):
    """What `tell` needs of a channel; see `ice_tcp.signaling.Channel`."""

    async def send(self, message: Message) -> None: ...


async def tell(agent: SignaledAgent, channel: MessageSender, fingerprint: str | None = None) -> None:
    """Send the agent's credentials, each candidate as it is found, and their end; see `apply` for the other end."""
    await channel.send(Description(agent.local_parameters, fingerprint))
    async for candidate in agent.local_candidates():
        await channel.send(CandidateFound(candidate))
    await channel.send(EndOfCandidates())


def apply(agent: SignaledAgent, message: Message) -> None:
    """Give what the peer said to the agent; a Note is the application's, and nothing is done with it."""
    match message:
        case Description(parameters=parameters):
            agent.set_remote_parameters(parameters)
        case CandidateFound(candidate):
            agent.add_remote_candidate(candidate)
        case EndOfCandidates():
            agent.end_of_candidates()
        case Note():
            return
