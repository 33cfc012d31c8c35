"""Where code is built: source -> sandboxed commands -> artifact, log lines as they come."""
