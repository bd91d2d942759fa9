"""The built-in encoders, one part a file; use them through the registry."""
