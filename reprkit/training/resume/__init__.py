"""Saving and resuming: a snapshot of the run, and its files."""
