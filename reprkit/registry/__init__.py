"""The registry of parts: hooks, plugin discovery, references, look-up, creation, and the built-in parts."""
