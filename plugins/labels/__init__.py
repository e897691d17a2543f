"""Labels: what is known about units without clustering them."""
