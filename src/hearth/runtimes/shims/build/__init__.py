"""What runs inside the sandbox of a build. Standard library only, any Python from 3.9; imports nothing else of ours."""
