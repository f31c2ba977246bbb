"""empirical/judgment."""
