"""Where a request enters: one table of routes, the order of checks, and the wire form of everything.

Nothing is decided here and nothing is stored here; `hearth.control` does both.
"""
