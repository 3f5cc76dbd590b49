"""ilvrctl: training-free image translation with diffusion models (ILVR and the methods built on it)."""

__version__ = "0.1.0"
