"""Synthesis transforms: from the cells of a small map to a picture."""
