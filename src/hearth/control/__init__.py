"""Where it is decided: one use case is one method. Knows ports and model only."""
