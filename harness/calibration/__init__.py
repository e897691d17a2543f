"""The harness measured by planted truth."""
