"""Decoders of frames of speech."""
