"""The values that stages exchange, and the contracts of the stages."""
