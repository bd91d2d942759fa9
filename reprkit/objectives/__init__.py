"""Objectives: what a model is trained for.  One part a file; each is found through the registry."""
