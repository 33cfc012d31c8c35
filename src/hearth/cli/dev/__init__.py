"""`hearth dev`: one function on the developer's machine, without a server and without isolation."""
