"""Layers of the transforms."""
