"""empirical/records."""
