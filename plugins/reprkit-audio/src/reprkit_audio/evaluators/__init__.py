"""Measures of speech and of its codes, one a file."""
