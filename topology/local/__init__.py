"""A broker for this machine, for demos and tests. Nothing that runs in production imports this room."""
