"""What one cell is, what it shares with others, and what it leaves."""
