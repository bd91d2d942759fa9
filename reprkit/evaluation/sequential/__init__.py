"""Causal models of long sequences: next-step prediction, and dynamic evaluation."""
