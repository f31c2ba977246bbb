"""commands/study."""
