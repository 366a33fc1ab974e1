"""Benchmarks, run by asv and by ratios.py."""
