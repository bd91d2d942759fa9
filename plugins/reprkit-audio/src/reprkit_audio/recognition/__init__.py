"""Pretrained models for evaluation: speaker verification and speech recognition.  Optional extras."""
