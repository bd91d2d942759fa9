"""Fast kernels, each tested against a plain reference implementation."""
