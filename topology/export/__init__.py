"""What the topology looks like to others: definitions to import, and a picture."""
