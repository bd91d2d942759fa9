"""Latents whose code is a tree."""
