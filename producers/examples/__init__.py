"""The producers of the sample jobs."""
