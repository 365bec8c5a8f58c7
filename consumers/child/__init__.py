"""The child process: reads orders, runs tasks, reports how each ended."""
