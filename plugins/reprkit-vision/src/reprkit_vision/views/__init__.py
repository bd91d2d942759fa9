"""Augmentations as corruptions, one a file: what makes two views of an image."""
