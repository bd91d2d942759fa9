"""A checkpoint on the disk: its files and what they say.  Torch-free; import from the modules."""
