"""The benchmark: ``python -m benchmarks`` prints us beside our peers.

Nothing here is imported by the library or by its tests, and no test asserts a time.
"""
