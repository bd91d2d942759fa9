"""Judges that were not trained here: whose voice it is, and which words are said.  Optional extras."""
