"""Many seeds on all processors, and what they covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.sim.run import Result, run_seed
from tests.sim.seeds import WITH_SERVERS

CHUNK = 25
"""Seeds that a process gets at a time."""

INTEREST = {
    "crossing SYNs": "crossing-syns",
    "accept wins": "accept-wins",
    "redial after RST": "redial",
    "RST of a NAT": "rst-of-nat",
    "role conflict": "role-conflict",
    "length cut in two": "cut-length",
    "length cut from body": "cut-body",
    "early data": "early-data",
    "pinned sequence number": "pinned-isn",
    "peer-reflexive local": "peer-reflexive-local",
    "peer-reflexive remote": "peer-reflexive-remote",
    "restart under load": "restart-under-load",
    "selected connection reset": "selected-reset",
    "slow reader full": "reader-full",
    "send buffer full": "send-buffer-full",
    "address taken": "address-taken",
}
"""Events that a campaign must have met at least once, and their counters in the world."""

SERVER_INTEREST = {
    "relayed UDP selected": "nominated relay udp",
    "relayed TCP selected": "nominated relay tcp",
    "relay, then direct": "relay then direct",
    "Connect (RFC 6062)": "relay-connects",
    "ConnectionAttempt (RFC 6062)": "relay-accepts",
    "relay lets nobody in yet": "relay-refuses-peer",
    "early bytes of a relay": "early-relayed-bytes",
    "STUN by channel": "relayed-stun",
    "server dead": "server: timed-out",
    "server refuses": "server: refused",
    "allocation refused (486)": "server: server-error-486",
    "wrong password (401)": "server: server-error-401",
    "forbidden peer (403)": "server-refused 403",
    "connection exists (446)": "server-refused 446",
    "no connection (447)": "server-refused 447",
    "no TCP relay (442)": "server: server-error-442",
    "stale nonce (438)": "server-refused 438",
    "redirection (300)": "server-refused 300",
    "certificate refused": "server: tls-certificate",
    "name unknown": "server: no-address",
    "mapping by destination": "mapping dependent",
    "mapping by port alone": "mapping endpoint-independent",
    "unused server dies": "server-dies",
    "relay dies": "relay-dies",
    "relay replaced": "relay-replaced",
}
"""The same, of the seeds with servers."""

SERVER_SHARE = 6
"""For so many seeds there is one more with servers."""


@dataclass(slots=True)
class Campaign:
    """The outcome of many seeds."""

    seeds: int = 0
    connected: int = 0
    events: Counter[str] = field(default_factory=Counter)
    outlooks: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.connected += result.connected
        self.events.update(result.events)
        self.outlooks[result.outlook.name] += 1
        if result.failure is not None:
            self.failures[result.seed] = result.failure

    @property
    def interest(self) -> dict[str, int]:
        """How often each event of interest occurred."""
        return {name: self.events[counter] for name, counter in (INTEREST | SERVER_INTEREST).items()}

    @property
    def missing(self) -> list[str]:
        """Events of interest that never occurred: whatever they would have shown was not tested."""
        return [name for name, count in self.interest.items() if not count]

    @property
    def passed(self) -> bool:
        return not self.failures and not self.missing

    def report(self) -> list[str]:
        """What occurred how often, and each failure with the command that replays it, line by line."""
        lines = [f"{self.seeds} seeds, {self.connected} connected, {len(self.failures)} failed"]
        lines += [f"  expected {name:<15} {count:>8}" for name, count in sorted(self.outlooks.items())]
        lines += [f"  {name:<28} {count:>8}" for name, count in sorted(self.interest.items())]
        lines += [f"never occurred: {name}" for name in self.missing]
        for seed, failure in sorted(self.failures.items()):
            lines += [f"seed {seed}: {failure}", f"  {replay_command(seed)}"]
        return lines


def replay_command(seed: int) -> str:
    """The one command that runs a seed again and shows what happened."""
    return f'make sim ARGS="--seed {seed} --trace"'


def run_campaign(start: int, seeds: int, jobs: int) -> Campaign:
    """Run ``seeds`` seeds from ``start`` on, and a sixth as many with servers, in ``jobs`` processes."""
    campaign = Campaign()
    first = WITH_SERVERS + start // SERVER_SHARE
    for result in _results(
        [*range(start, start + seeds), *range(first, first + seeds // SERVER_SHARE)], jobs, run_seed
    ):
        campaign.add(result)
    return campaign


def _results(seeds: Sequence[int], jobs: int, run: Callable[[int], Result]) -> Iterator[Result]:
    if jobs <= 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, seeds, chunksize=CHUNK)
