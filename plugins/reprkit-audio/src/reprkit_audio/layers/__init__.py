"""What the networks of speech share: convolutions, norms and recurrences in which padding takes no part."""
