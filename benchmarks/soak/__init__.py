"""A hub under load and under fire, for as long as you like: `python -m benchmarks.soak --minutes 10 --seed 1 --loop trio`."""
