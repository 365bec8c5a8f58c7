"""From the outcome of a delivery to its settlement: the verdict, what has to be confirmed, ack or nack."""
