"""What looks on: the log."""
