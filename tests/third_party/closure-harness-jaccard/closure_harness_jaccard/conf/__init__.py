"""Configuration: what is found here is found beside the harness's own."""
