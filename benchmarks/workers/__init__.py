"""One module a client; each run is a process of its own that prints JSON."""
