"""The fault matrix: break something on purpose, then count. `python -m tests.faults --help`."""
