"""Numbers about folders of results: what belongs together, what it is compared with, and how sure that is."""
