"""What the encoders and decoders of transformers share: their settings, their weights, their symbols."""
