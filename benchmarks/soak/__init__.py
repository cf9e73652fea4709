"""Load and soak: ``python -m benchmarks soak``.

Thousands of sessions at once against the demo server in a second process, some of them
struck by a fault. Nothing may hang, nothing may leak, each message has to be right.
"""
