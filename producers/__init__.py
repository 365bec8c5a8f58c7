"""Put tasks on an exchange."""
