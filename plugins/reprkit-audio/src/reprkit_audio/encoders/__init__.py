"""Encoders of frames of speech."""
