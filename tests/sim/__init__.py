"""A deterministic world in virtual time, in which unmodified core agents find each other.

From the bottom up: `clock`, `packets`, `network` (realms and links), `nat`, `tcp` and `tcpstack`, `host`, `world`;
then `stream` and `shell` (what the asyncio driver is in production), `application`, `signaling`; then `scenario`,
`generator` (a seed's scenario), `build`, `oracle` (what must come of it), `watch` and `properties` (what must hold),
`run` (one seed), `campaign` (many), `shrink` (a failing one made small), `mutants` (planted faults).

    python -m tests.sim --seeds 2000          # what `make test` runs
    python -m tests.sim --seed 17 --trace     # one seed, with the ladder of its packets
    python -m tests.sim --seed 17 --shrink    # the smallest scenario that fails like it
"""
