"""commands/theory."""
