"""The parent's side of running: the backlog, the pool of children, and the process that forks them."""
