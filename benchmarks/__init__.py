"""One module per claim: ``python -m benchmarks.NAME [--quick] [--data DIR] [--seed N]``."""
