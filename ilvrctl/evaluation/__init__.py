"""Numbers about folders of results: which pictures belong together, what they are compared with, and how sure it is."""
