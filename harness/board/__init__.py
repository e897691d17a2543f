"""Boards, verdict cards, reports and figures: what people read, made from records."""
