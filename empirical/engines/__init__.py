"""empirical/engines."""
