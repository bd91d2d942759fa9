"""Image data sets, one per file."""
