"""Data sets by format: arrays, tables, images, sound, text, the hub."""
