"""Pages for machines: what a worker counts, whether it lives, whether it is ready."""
