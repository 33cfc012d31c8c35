"""Commands that work on a server through its public API, from the folder of a project."""
