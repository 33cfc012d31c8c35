"""Work that outlives a request: worker, handlers, reaper."""
