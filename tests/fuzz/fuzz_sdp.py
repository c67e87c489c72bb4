"""ICE attributes of session descriptions.

Invariant: any text is either refused with CandidateError or ParametersError, or parsed into what formats to a text
that is parsed into the same again.
"""

from __future__ import annotations

from candidates.candidate import CandidateError
from candidates.parameters import ParametersError
from candidates.sdp import MAX_SENT_UFRAG, format_candidate, format_description, parse_candidate, parse_description
from tests.fuzz.harness import main

SEEDS = [
    b"candidate:1 1 TCP 2128609279 10.0.1.1 9 typ host tcptype active",
    b"candidate:6 2 udp 1692401663 2001:db8::1 45687 typ srflx raddr fd00::1 rport 8999 generation 0 ufrag abcd x y",
    b"candidate:a/+ 256 UDP 1 7b2a.local 65535 typ host network-id 1 network-cost 999",
    b"\r\n".join(
        (
            b"a=ice-ufrag:8hhY",
            b"a=ice-pwd:asd88fgpdd777uzjYhagZg",
            b"a=ice-options:trickle ice2",
            b"a=ice-pacing:5",
            b"a=ice-lite",
            b"m=audio 9 UDP 0",
            b"a=candidate:1 1 UDP 1 192.0.2.1 9 typ relay raddr 0.0.0.0 rport 9",
            b"a=end-of-candidates",
        )
    ),
]


def check(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    try:
        candidate = parse_candidate(text)
    except CandidateError:
        pass
    else:
        assert parse_candidate(format_candidate(candidate)) == candidate
    try:
        description = parse_description(text)
    except (CandidateError, ParametersError):
        return
    if len(description.parameters.ufrag) <= MAX_SENT_UFRAG:
        assert parse_description(format_description(description)) == description


if __name__ == "__main__":
    main(check, SEEDS)
