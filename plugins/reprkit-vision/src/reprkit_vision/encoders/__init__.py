"""Image encoders, one per file."""
