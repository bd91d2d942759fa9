"""Objectives of models of sound."""
