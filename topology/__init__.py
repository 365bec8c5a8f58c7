"""What producers and consumers agree on: names, exchanges, queues, messages, settings and errors."""
