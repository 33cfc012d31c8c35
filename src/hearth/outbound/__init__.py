"""Connections the server itself opens to the outside."""
