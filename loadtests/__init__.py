"""Load tests and measurements; run with ``python -m loadtests.NAME``."""
