"""The heart: controls, statistics and the verdict of the closure test."""
