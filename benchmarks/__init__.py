"""Benchmarks: this tool beside its peers, in one run."""
