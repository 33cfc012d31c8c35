"""Seccomp filters as BPF bytes, one per machine, and the source that makes them (`generate.py`)."""
