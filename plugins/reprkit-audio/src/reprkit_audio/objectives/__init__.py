"""Objectives that part what is said from who says it."""
