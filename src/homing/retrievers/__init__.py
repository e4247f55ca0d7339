"""Retrievers: what finds documents for queries."""
