"""Encoders: what turns texts into embeddings."""
