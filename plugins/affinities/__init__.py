"""Affinities: how similarly two units behave."""
