"""Where code is run: pool (pure), instances (acts), protocol (speaks to a shim)."""
