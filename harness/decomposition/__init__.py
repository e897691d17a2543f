"""Decompositions of weight matrices into rank-one subcomponents: targets, importance functions, files, oracles."""
