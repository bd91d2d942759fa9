"""Data sets by format: arrays, tables, images, audio, text, the Hugging Face hub."""
