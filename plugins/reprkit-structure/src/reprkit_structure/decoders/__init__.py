"""Decoders: a grammar, and a generator that builds the tree while it writes."""
