"""Building blocks that the built-in encoders and decoders share."""
