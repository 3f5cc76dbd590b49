"""Jobs: from a list of inputs to files on disk, with a plan first."""
