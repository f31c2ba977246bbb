"""figures/theory."""
