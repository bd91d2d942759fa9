"""Data sets of texts, one per file, found through the registry."""
