"""The link to the broker: connections, and messages on their way to it."""
