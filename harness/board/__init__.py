"""What people read: boards, cards, reports and pictures, made of records."""
