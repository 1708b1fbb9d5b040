"""What is fast and what is slow, gibbs beside its peers in one run. `python -m benchmarks` runs every row of docs/performance.md."""
