"""Speed against peers, in one process and one run: `python -m benchmarks C1`. See docs/performance.md."""
