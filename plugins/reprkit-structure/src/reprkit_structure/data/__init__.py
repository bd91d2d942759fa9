"""Data sets of trees: expressions and sentences of a small grammar."""
