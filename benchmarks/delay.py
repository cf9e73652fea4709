"""A longer line: a TCP relay in a helper process that adds time in each direction.

Run as ``python -m benchmarks.delay '{"target": 1100, "seconds": 0.025}'``; prints its
port as JSON and ends with its standard input. With ``"port"`` it listens there. What
arrives is queued and leaves, in order, when its time has come; the queue has no bound,
so the line has delay but no rate limit. The connect itself is not delayed: a real line
would add one round trip for every client.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from queue import SimpleQueue

READ = 65536


def pump(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Carry one direction of one connection, each chunk late by *seconds*."""
    queue: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def write() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = queue.get()
                wait = due - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)

    threading.Thread(target=write, daemon=True).start()
    data = b"-"
    while data:
        try:
            data = source.recv(READ)
        except OSError:
            data = b""
        queue.put((time.perf_counter() + seconds, data))


def main() -> None:
    """Relay until standard input ends."""
    job = json.loads(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", job.get("port", 0)), backlog=1024)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", job["target"]))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((client, server), (server, client)):
                threading.Thread(
                    target=pump, args=(*pair, job["seconds"]), daemon=True
                ).start()

    threading.Thread(target=accept, daemon=True).start()
    print(json.dumps({"plain": listener.getsockname()[1]}), flush=True)
    sys.stdin.read()
    os._exit(0)  # the pump threads may still wait for clients


if __name__ == "__main__":
    main()
