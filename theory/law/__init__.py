"""theory/law."""
