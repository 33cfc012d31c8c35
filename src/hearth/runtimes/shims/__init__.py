"""Programs that run inside sandboxes, one folder each; the folder is shown there at /usr/local/server/shims."""
