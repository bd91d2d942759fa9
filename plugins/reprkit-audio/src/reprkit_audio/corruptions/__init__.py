"""Corruptions of sound, one per file, found through the registry."""
