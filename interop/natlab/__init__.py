"""The NAT lab: hosts, NATs, firewalls and an internet in network namespaces, and agents that must connect through them.

Run it with ``python -m interop lab`` as root; ``docs/nat-lab.md`` tells how to read what comes out.
"""
