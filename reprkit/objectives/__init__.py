"""Objectives: what drives a model.  One part a file; each is found through the registry."""
