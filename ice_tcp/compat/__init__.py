"""Interfaces of other ICE agents on top of ours: change an import, and an application has ICE over TCP."""
