"""Objectives of texts with trees."""
