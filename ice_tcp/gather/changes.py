"""What is different from one gathering to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ice_tcp.gather import words
from ice_tcp.gather.findings import Findings, Kept, ServerOutcome


def changes(before: Findings, after: Findings) -> list[str]:
    """In words, one line each; ports do not count, which are others each time."""
    return [*_candidates(before, after), *_servers(before, after), *_mappings(before, after)]


def _candidates(before: Findings, after: Findings) -> Iterator[str]:
    old, new = (Counter(map(_without_port, findings.kept)) for findings in (before, after))
    yield from (f"- {text}" for text in (old - new).elements())
    yield from (f"+ {text}" for text in (new - old).elements())


def _without_port(kept: Kept) -> str:
    candidate = kept.candidate
    return f"{candidate.type} {words.kind(candidate)} {candidate.address.host}"


def _servers(before: Findings, after: Findings) -> Iterator[str]:
    old = {server.url: _summary(server) for server in before.servers}
    for server in after.servers:
        summary = _summary(server)
        if old.get(server.url) != summary:
            yield f"~ {server.url}: {summary}"


def _summary(server: ServerOutcome) -> str:
    causes = ", ".join(sorted(str(failure.cause) for failure in server.failures))
    state = "good" if server.is_good else "failed"
    return f"{state} ({causes})" if causes else state


def _mappings(before: Findings, after: Findings) -> Iterator[str]:
    for (transport, host), behaviour in after.mappings.items():
        if before.mappings.get((transport, host)) is not behaviour:
            yield f"~ {transport} from {host}: {words.MAPPINGS[behaviour]}"
