"""Pictures in and out: the only floor that reads or writes picture files."""
