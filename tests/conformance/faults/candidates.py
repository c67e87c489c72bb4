"""Faults for what agents tell of themselves and take of their peer: candidates, credentials, options, trickle."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.conformance import boxes
from tests.conformance.agents import (
    ForgetsFragments,
    GivesUp,
    NoEnd,
    NoTrickle,
    Picky,
    listing,
    telling,
    wrapping,
)
from tests.conformance.faults.registry import behind, within

# Candidates (RFC 8445 s5.1, RFC 8839 s5.1)


def _priority(line: str, priority: int) -> str:
    return re.sub(r"(candidate:\S+ \d+ \S+) \d+", rf"\1 {priority}", line)


within(telling(lambda told: replace(told, candidates=())), "8445-5.1.1.1-a-host-candidate")
behind(
    boxes.Elsewhere,
    "8445-5.1.1.1-the-port-is-bound",
    "8445-7.2.4-checks-go-from-base-to-candidate",
)
within(listing(lambda line: line.replace(" 2 UDP", " 3 UDP")), "8445-5.1.1.1-components-count-from-one")
within(listing(lambda line: line.replace("::1", "::ffff:127.0.0.1")), "8445-5.1.1.1-no-mapped-addresses")
within(
    listing(lambda line: re.sub(r"candidate:\S+ (\d)", r"candidate:\1 \1", line)),
    "8445-5.1.1.3-one-foundation-for-all-components",
)
within(listing(lambda line: re.sub(r"candidate:\S+", "candidate:1", line)), "8445-5.1.1.3-another-foundation-for-tcp")
within(listing(lambda line: _priority(line, 1000)), "8445-5.1.2-priorities-are-unique")
within(
    listing(lambda line: _priority(line, 126 << 24 | 65535 << 8 | 255)), "8445-5.1.2.1-the-component-is-in-the-priority"
)
within(listing(lambda line: _priority(line, 127 << 24)), "8445-5.1.2.1-type-preference")
within(
    listing(lambda line: _priority(line, 100 << 24 | 7 << 8 | 255)),
    "8445-5.1.2.1-local-preference-of-one-address",
    "8445-5.1.2.2-recommended-type-preference",
)
within(listing(lambda line: line.replace(" typ ", " type ")), "8839-5.1-candidates-follow-the-grammar")
within(listing(lambda line: line.replace("127.0.0.1", "localhost")), "8839-5.1-candidates-have-addresses")
within(
    listing(lambda line: line.replace(" typ host", " typ host raddr 127.0.0.1 rport 9")),
    "8839-5.1-no-related-address-of-a-host",
)
within(listing(lambda line: re.sub(r"candidate:\S+", f"candidate:{'f' * 40}", line)), "8839-5.1-foundations-are-short")

# Credentials and options (RFC 8445 s5.3, s10, RFC 8839 s4, s5.4)

within(telling(lambda told: replace(told, ufrag="always", pwd="same" * 8)), "8445-5.3-credentials-are-random")
within(telling(lambda told: replace(told, pwd=told.pwd[:21])), "8839-5.4-credentials-are-long-enough")
within(telling(lambda told: replace(told, ufrag="f" * 33)), "8839-5.4-the-fragment-is-not-too-long")
within(telling(lambda told: replace(told, pwd=f"-{told.pwd}")), "8839-5.4-credentials-are-of-ice-chars")
within(telling(lambda told: replace(told, options=("trickle",))), "8445-10-the-ice2-option")
within(telling(lambda told: replace(told, options=("ice2",))), "8838-3-the-trickle-option")
within(telling(lambda told: replace(told, options=("google-ice",))), "8839-5.6-options-are-of-ice-chars")
within(telling(lambda told: replace(told, pacing=None)), "8839-4.3.1-a-full-agent-tells-its-pacing")
within(telling(lambda told: replace(told, pacing=50)), "8839-4.3.1-a-lite-agent-tells-no-pacing")
within(telling(lambda told: replace(told, lite=False)), "8839-4.2.1.4-a-lite-agent-says-so")
within(telling(lambda told: replace(told, lite=True)), "8839-4.2.1.4-a-full-agent-does-not-say-lite")

# What the peer tells (RFC 8839 s5)

within(
    wrapping(Picky),
    "8839-5.1-unknown-extensions-are-ignored",
    "8839-5.1-names-are-ignored",
    "8839-5.1-unknown-transports-are-ignored",
    "8839-5.1-unknown-types-are-ignored",
    "8839-5.1-the-case-of-the-transport-does-not-matter",
    "8839-5.1-hidden-related-addresses-are-taken",
    "8839-5.1-long-foundations-are-taken",
    "8839-5.1-extreme-priorities-are-taken",
    "8839-5.1-other-components-are-ignored",
    "8839-5.1-lines-that-are-no-candidates",
    "8839-5.4-long-credentials-of-the-peer",
    "8839-5.4-short-credentials-of-the-peer",
    "8445-6.1.2.2-pairs-are-of-one-address-family",
)

# Trickle and patience (RFC 8838, RFC 8863)

within(wrapping(NoTrickle), "8838-11-a-late-candidate-is-checked", "8838-12-late-candidates-go-by-priority")
within(
    wrapping(GivesUp),
    "8838-8-failed-pairs-do-not-end-it",
    "8838-7-an-empty-list-is-no-failure",
    "8863-4-no-candidates-is-no-failure-yet",
    "8863-4-failed-pairs-are-no-failure-yet",
)
within(wrapping(NoEnd), "8838-14-candidates-after-the-end-are-ignored")
within(wrapping(ForgetsFragments), "8838-9-candidates-of-the-last-session-are-ignored")
