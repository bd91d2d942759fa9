"""Evaluation of causal models on long sequences: next-step prediction and dynamic evaluation."""
