"""The closure test: controls, statistics and the verdict."""
