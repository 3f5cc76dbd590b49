"""Networks that estimate the noise: their architecture read from checkpoints, their modules, their loading."""
