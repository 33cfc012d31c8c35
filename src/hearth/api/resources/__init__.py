"""The tables of routes, one module per resource, each with the handlers of its routes beside it."""
