"""theory/draw."""
