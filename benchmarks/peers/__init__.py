"""One module for each system: how it sends, and its tasks. Those of the peers run in `.venv-bench`."""
