"""Shared by the encoders and decoders of transformers: config, weights, numbering of symbols, saving."""
