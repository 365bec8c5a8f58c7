"""What a worker answers when it is asked who it is and what it does."""
