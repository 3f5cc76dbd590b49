"""Checkpoint files: opened safely, recognised, and made into networks."""
