"""What runs inside the sandbox of a fetch. Standard library only, any Python from 3.9; runs the host's git."""
