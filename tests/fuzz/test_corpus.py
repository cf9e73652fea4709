"""
The corpus of the fuzzer, replayed without it: what has broken something once, too.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fuzz.targets import CORPUS, PARTS, check


class CorpusTests(SynchronousTestCase):
    """
    Each file of ``fuzz/corpus``.
    """

    def test_every_corpus_file_passes_its_check(self) -> None:
        for path in sorted(CORPUS.iterdir()):
            try:
                check(path.read_bytes())
            except Exception as error:
                raise AssertionError(f"{path.name}: {error!r}") from error

    def test_every_part_has_a_corpus_file(self) -> None:
        first = {path.read_bytes()[:1] for path in CORPUS.iterdir()}
        self.assertEqual(first, set(PARTS))

    def test_arbitrary_bytes_pass_the_check(self) -> None:
        for octet in range(256):
            for rest in (b"", b"\0", b"\xff" * 40, b"+OK\r\n"):
                check(bytes([octet]) + rest)
