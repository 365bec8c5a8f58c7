"""What is said to all workers at once, as a worker hears it: cancels of tasks and pauses of queues."""
