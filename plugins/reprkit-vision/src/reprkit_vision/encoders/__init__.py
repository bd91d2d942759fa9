"""Encoders of images, one a file."""
