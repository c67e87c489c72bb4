"""Faults for nomination, data, keepalives, restarts (RFC 8445 s8 to s12) and consent (RFC 7675)."""

from __future__ import annotations

from ice_tcp.core.checks import Checks
from tests.conformance import boxes
from tests.conformance.agents import (
    KeepsItsPassword,
    Leaks,
    Mute,
    NeverConnects,
    following,
    wrapping,
)
from tests.conformance.faults.registry import behind, within
from tests.conformance.inside import nothing, with_fault

# Nomination and conclusion (RFC 8445 s8)

behind(
    boxes.Aggressive,
    "8445-8.1.1-one-and-only-one-nomination",
    "8445-8.1.1-a-valid-pair-is-nominated",
    "6544-8-no-aggressive-nomination",
)
behind(
    boxes.Retired,
    "8445-8.1.2-answers-go-on-after-nomination",
    "8445-8.3.1-other-sources-are-answered-for-a-while",
    "8445-11-checks-after-the-end-change-nothing",
)
behind(
    boxes.IgnoresNominations,
    "8445-7.3.2-a-lite-agent-accepts-a-nomination",
    "6544-9.2-a-restart-ends-the-old-connection",
)

within(with_fault(Checks, "abandon", nothing), "8445-8.1.2-checks-end-with-the-nomination")

# Data and keepalives (RFC 8445 s11, s12)

within(wrapping(NeverConnects), "8445-12.1-data-before-nomination")
behind(boxes.Misroutes, "8445-12.1-data-goes-on-the-selected-pair", "8445-12.1-data-moves-to-the-new-pair")
behind(boxes.IgnoresData, "8445-12.2-data-of-the-other-pair-is-received", "8445-5.3-data-that-looks-like-stun")
behind(boxes.DataFromElsewhere, "8445-12.1-data-comes-from-the-base")
behind(boxes.FallsSilent, "8445-11-a-keepalive")

# Restarts (RFC 8445 s9)

within(wrapping(KeepsItsPassword), "8445-9-a-restart-changes-both-credentials")
within(wrapping(Mute), "8445-9-data-flows-during-a-restart", "7675-5-consent-begins-with-success")
behind(boxes.Retired, "8445-9-the-new-credentials-are-answered")

# Consent (RFC 7675)

behind(boxes.Metronome, "7675-5.1-intervals-are-randomized")
behind(boxes.Sluggish, "7675-5.1-intervals-are-4-to-6-seconds")
behind(boxes.Stutters, "7675-5.1-new-transaction-each-time", "7675-5.1-sent-once-only")
behind(boxes.Trusting, "7675-5.1-forged-answers-do-not-renew-consent", "7675-5.2-a-forged-403-does-not")
within(
    following(lambda policy: policy.replace("consent: {", "consent: {enabled: false, ")),
    "7675-5.1-silence-ends-consent",
    "7675-5.1-data-does-not-renew-consent",
    "7675-5.1-the-peers-checks-do-not-renew-consent",
    "7675-5.1-errors-do-not-renew-consent",
    "7675-5.1-late-answers-do-not-bring-it-back",
    "7675-5.1-consent-over-tcp",
    "7675-5.1-consent-during-a-restart",
    "7675-5.2-a-403-revokes-consent",
)
within(wrapping(Leaks), "7675-5.1-no-data-before-consent", "8445-12.1.1-a-lite-agent-sends-no-data-before")
