"""Controls: random groups that a candidate is compared with."""
