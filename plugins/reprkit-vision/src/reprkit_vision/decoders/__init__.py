"""Decoders of reprkit-vision."""
