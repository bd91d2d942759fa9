"""Data sets of texts, one a file; each is found through the registry."""
