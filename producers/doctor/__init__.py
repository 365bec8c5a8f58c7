"""What is wrong with a broker, its queues and its workers: gathered as facts, judged by pure functions."""
