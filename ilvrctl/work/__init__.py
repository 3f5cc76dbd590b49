"""How a plan gets done: batches, workers, reading ahead, writing behind."""
