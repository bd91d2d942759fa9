"""Measures of rate and distortion."""
