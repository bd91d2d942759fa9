"""The built-in decoders, one part a file; use them through the registry."""
