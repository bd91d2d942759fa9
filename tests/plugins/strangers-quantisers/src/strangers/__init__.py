"""Quantisers of vector-quantize-pytorch as latents of reprkit."""
