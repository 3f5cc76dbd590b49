"""Networks that estimate the noise: architecture read from checkpoints, modules, loading."""
