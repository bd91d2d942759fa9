"""Likelihoods, one part a file; each is found through the registry."""
