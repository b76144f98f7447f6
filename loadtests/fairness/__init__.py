"""Fairness windows measured beside first come, first served: python -m loadtests.fairness."""
