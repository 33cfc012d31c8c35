"""The benchmarks: the numbers this project promises, measured against the real server. `make bench`."""
