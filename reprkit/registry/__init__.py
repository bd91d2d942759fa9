"""From names to parts: hooks, discovery of plugins, references, look-up, creation, and the built-in parts."""
