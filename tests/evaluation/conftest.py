"""Fixtures of the evaluators' tests."""

from stub_models import digits, reader, table

__all__ = ["digits", "reader", "table"]
