"""What is asked for: inputs, settings, places and what is done already, as values. No torch here."""
