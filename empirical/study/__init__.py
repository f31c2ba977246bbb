"""empirical/study."""
