"""Loading: the order of examples, batches of similar lengths, worker processes."""
