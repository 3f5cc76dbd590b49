"""Training beside the engine: a target's model from a folder of pictures, and the domain classifier of EGSDE."""
