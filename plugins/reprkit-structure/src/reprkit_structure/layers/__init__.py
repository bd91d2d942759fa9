"""Computations over trees: a distribution over binary trees, grammars, brackets."""
