"""Taking deliveries from the broker: consumers, and how many messages to hold."""
