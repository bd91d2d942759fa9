"""Trees for reprkit: parsers as latents, grammars as decoders, bracket F1."""
