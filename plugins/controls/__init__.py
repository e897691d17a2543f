"""Controls: random groups that a candidate is held against."""
