"""Labels: the classes of units that are known without clustering."""
