"""Objectives of pictures."""
