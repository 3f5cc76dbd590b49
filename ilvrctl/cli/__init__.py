"""The command line: the only floor that reads arguments, prints and exits."""
