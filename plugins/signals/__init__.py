"""Signals: what a subject computes, reduced to one number per observation and unit."""
