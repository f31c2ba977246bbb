"""Questions to the theory: each is answered in seconds, without a data set."""
