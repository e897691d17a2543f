"""Boards, verdict cards, reports and figures, built from records."""
