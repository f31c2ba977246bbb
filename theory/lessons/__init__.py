"""theory/lessons."""
