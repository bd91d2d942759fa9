"""Corruptions, one per file, found through the registry."""
