"""Working the dead letters."""
