"""Homing aligns a text-embedding model with one retrieval task and proves that it did."""
