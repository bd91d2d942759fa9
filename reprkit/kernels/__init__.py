"""Fast computations, each tested against a plain reference."""
