"""Policy files.

Invariant: any text is either refused with PolicyError, whose problems stand at places in the text and which shows no
credential's value, or gives a policy.
"""

from __future__ import annotations

from candidates.policy import Policy, PolicyError, load_policy
from tests.fuzz.harness import main

SECRET = "n0t-to-be-shown"

SEEDS = [
    b"transports: [udp]\ntcp_types: [active]\ninterfaces: {include: [eth*], exclude: [docker*], loopback: true}\n",
    b"ports: {udp: 40000-40100, tcp: [50000, 50100]}\nremote:\n  deny:\n    - cidr: 10.0.0.0/8\n      transport: tcp\n",
    b"servers:\n- url: turn:turn.example.org?transport=tcp\n  username: u\n  password: ${PASSWORD}\n",
    b"server:\n  users: [{name: u, password: '${PASSWORD}'}]\n  alternate_servers: ['[::1]:5']\n  users_file: none\n",
    b"server: {listen: [192.0.2.1], peers: {deny: [10.0.0.0/8]}}\nrendezvous: {redis: '${PASSWORD}', port: 0}\n",
    b"timeouts: {rto: 0.5}\nconsent: {enabled: no}\nlimits: {pairs: 10}\n",
]


def check(data: bytes) -> None:
    text = data.decode(errors="replace")
    loaded = load(text)
    if isinstance(loaded, Policy):
        assert SECRET not in repr(loaded)
        return
    lines = text.count("\n") + text.count("\r") + 2
    assert loaded.problems
    assert all(problem.line is None or 1 <= problem.line <= lines for problem in loaded.problems)
    assert SECRET not in str(loaded)


def load(text: str) -> Policy | PolicyError:
    try:
        return load_policy(text, environ={"PASSWORD": SECRET}, read_file=_read_nothing)
    except PolicyError as error:
        return error


def _read_nothing(path: str) -> str:
    raise FileNotFoundError(path)


if __name__ == "__main__":
    main(check, SEEDS)
