"""From a recording to candidates."""
