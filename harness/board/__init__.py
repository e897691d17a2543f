"""Leaderboards: records in, ranked tables out."""
