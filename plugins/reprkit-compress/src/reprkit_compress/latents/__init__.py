"""Quantized codes with entropy models of their own."""
