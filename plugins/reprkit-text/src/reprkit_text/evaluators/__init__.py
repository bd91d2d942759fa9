"""Evaluators, one a file; each is found through the registry."""
