"""The study: to train it, to judge it, and to show what came of it."""
