"""What networks look like, read from the names and shapes of their tensors. No torch here."""
