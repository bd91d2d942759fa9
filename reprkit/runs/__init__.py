"""Runs on disk: writing and reading their files.  Does not import torch; import from the modules."""
