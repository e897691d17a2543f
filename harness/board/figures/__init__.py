"""Figures of boards and reports."""
