"""What differs between the code's queues and the broker's, and changing queues that exist, with what is in them."""
