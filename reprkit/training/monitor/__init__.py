"""Watching a run: values that are not finite, exploding norms, lost rank, collapse."""
