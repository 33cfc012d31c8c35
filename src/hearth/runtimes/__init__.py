"""Which interpreters exist and run here; the shims that sit inside an instance."""
