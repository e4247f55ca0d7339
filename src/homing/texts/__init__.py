"""Texts as words and shingles: what is nearly equal, and what is rare."""
