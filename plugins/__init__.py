"""The methods that come with Closure Harness: one folder per stage, one file per method."""
