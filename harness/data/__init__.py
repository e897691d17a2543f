"""What travels between stages, and the contracts of the stages."""
