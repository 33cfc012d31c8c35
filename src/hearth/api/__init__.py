"""Where a request enters: routes, actors, the wire. No decisions, no SQL."""
