"""
Run atheris on `fuzz.targets`, from the corpus on.

    python -m fuzz [-max_total_time=SECONDS] [options of libFuzzer]

What it finds on the way is kept in a folder of its own; an input that breaks something
is named in the end, and belongs into ``fuzz/corpus``, where the tests replay it.
"""

from __future__ import annotations

import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["pop3connect"]):
    from . import targets


def main() -> None:
    """
    Never comes back: libFuzzer ends the process.
    """
    found = tempfile.mkdtemp(prefix="pop3connect-fuzz-")
    words = targets.CORPUS.parent / "words.dict"
    arguments = [
        "fuzz",
        f"-dict={words}",
        f"-artifact_prefix={found}/",
        "-max_len=4096",
        "-timeout=20",
        *sys.argv[1:],
        found,
        str(targets.CORPUS),
    ]
    atheris.Setup(arguments, targets.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
