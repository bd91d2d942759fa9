"""Monitoring of a run: non-finite values, exploding norms, low rank, collapse."""
