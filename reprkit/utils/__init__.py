"""Utilities for all packages: atomic file writes, the cache, collectives, evaluation mode, precision, progress."""
