"""The command hearth."""
