"""Looking at workers and queues: who is there, what runs, what waits, and what needs a look."""
