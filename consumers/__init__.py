"""Take, run and settle."""
