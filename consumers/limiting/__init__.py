"""Limits across all workers: a delivery begins when its worker has a token of each of its limits."""
