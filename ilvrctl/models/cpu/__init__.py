"""How convolutions and norms are computed on a CPU, faster than layer by layer."""
