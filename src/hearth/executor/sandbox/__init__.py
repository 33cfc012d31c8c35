"""Sandboxes: drivers, the privileged spawner, the egress gate, and the probes of doctor."""
