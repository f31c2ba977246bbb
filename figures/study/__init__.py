"""figures/study."""
