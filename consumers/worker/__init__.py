"""The worker's parent process: start, work, leave."""
