"""The benchmark: ``python -m benchmarks`` prints us beside our peers.

Nothing here is imported by the library. Its tests run the soak in a smaller form; no
test asserts a time.
"""
