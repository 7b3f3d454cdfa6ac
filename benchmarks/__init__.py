"""What guidance costs, measured: ``python -m benchmarks`` (``make bench``)."""
