"""Getting weights: where they are published, transfers that survive reality, and proof of what arrived.

The only place that uses the network. Nothing here prints: what happens is told in events.
"""
