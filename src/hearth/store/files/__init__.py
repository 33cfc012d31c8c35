"""Blobs on the local disk."""
