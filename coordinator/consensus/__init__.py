"""Consensus: `port` is what the rest of the node needs of it; behind it a hardened PySyncObj on our own
journal and transport.
"""
