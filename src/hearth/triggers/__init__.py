"""What starts a run besides a call: cron, delayed, events."""
