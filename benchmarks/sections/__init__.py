"""The parts of the benchmark; each module has ``run(bench)`` and gives tables."""
