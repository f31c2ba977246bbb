"""theory/predict."""
