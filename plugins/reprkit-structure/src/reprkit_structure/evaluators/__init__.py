"""Evaluators of trees."""
