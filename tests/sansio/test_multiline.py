"""
The multi-line decoder against a plain one that goes line by line.

However a reply is cut into chunks, and whatever stands before and after it, the
message is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.sansio.multiline import SHORT, MultilineDecoder, decode_whole

from ..support.shows import shows
from .owner import singly
from .reference import plain

END = b".\r\n"
STATUS = b"+OK message follows\r\n"

#: Octets that may wait for the next chunk: all of the end marker but its last.
HELD = 4

# What a server sends before END, and what was meant.
BODIES: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b"\r\n", b"\r\n"),
    (b"\r\n\r\n\r\n", b"\r\n\r\n\r\n"),
    (b"one line\r\n", b"one line\r\n"),
    (b"Subject: x\r\n\r\ntext\r\n", b"Subject: x\r\n\r\ntext\r\n"),
    # stuffed lines: first, last, alone, one after another
    (b"..\r\n", b".\r\n"),
    (b"..\r\n..\r\n..\r\n", b".\r\n.\r\n.\r\n"),
    (b"...\r\n", b"..\r\n"),
    (b"..first\r\nx\r\n..last\r\n", b".first\r\nx\r\n.last\r\n"),
    (b"x\r\n.. \r\n", b"x\r\n. \r\n"),
    # dots that mean nothing
    (b"a.\r\nb . c.\r\n ..\r\n", b"a.\r\nb . c.\r\n ..\r\n"),
    (b"x.\r\n", b"x.\r\n"),
    # Only CR LF ends a line, so neither of these is an end, nor stuffed.
    (b"a\n.\r\n", b"a\n.\r\n"),
    (b"a\n.\nb\n..c\n\r\n", b"a\n.\nb\n..c\n\r\n"),
    (b"a\r.\r\n", b"a\r.\r\n"),
    (b"a\r.\rb\r\r\n", b"a\r.\rb\r\r\n"),
    (b"a\r\r\n..b\r\n", b"a\r\r\n.b\r\n"),
    (b"\n\r\n", b"\n\r\n"),
    (b"\n.\r\n", b"\n.\r\n"),
    (b"\r\r\n", b"\r\r\n"),
    (b"\r.\r\n", b"\r.\r\n"),
    (b"no line end but a bare one\n\r\n", b"no line end but a bare one\n\r\n"),
    # A dot at the start goes whatever follows; it is the end before CR LF only.
    (b".\n\r\n", b"\n\r\n"),
    (b".\rx\r\n", b"\rx\r\n"),
    (b".\r\r\n", b"\r\r\n"),
    (b".\0\r\n", b"\0\r\n"),
    (b".forgotten by the server\r\n", b"forgotten by the server\r\n"),
    (b"x\r\n.\n.\r\n.\r\r\n", b"x\r\n\n.\r\n\r\r\n"),
    # octets that are no text
    (b"\0\0\r\n\xff\xfe\x80\r\n\0..\r\n", b"\0\0\r\n\xff\xfe\x80\r\n\0..\r\n"),
    (b"+OK\r\n-ERR\r\n+OK 12\r\n", b"+OK\r\n-ERR\r\n+OK 12\r\n"),
]

SPARSE = b"VGhlIHF1aWNrIGJyb3duIGZveC4=" * 100 + b"\r\n"
PROSE = b"I came. I saw. It was... well. Not much, i.e. nothing.\r\n" * 20
STUFFED = b"..dot\r\n..\r\n...\r\n" * 20


def stuffed(body: bytes) -> bytes:
    """Encode a body that is empty or ends in CR LF, line by line."""
    lines = body.split(b"\r\n")[:-1]
    return b"".join(
        (b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines
    )


def decode(chunks: Iterable[bytes], start: int = 0) -> tuple[bytes, int]:
    """Decode one body in chunks: what was passed on, and where it ended (or -1)."""
    decoder, pieces = MultilineDecoder(), list[bytes]()
    decoder.begin(pieces.append)
    before = 0
    for chunk in chunks:
        end = decoder.feed(chunk, start)
        if end >= 0:
            before += end
            break
        before += len(chunk)
        start = 0
    else:
        before = -1
    body = b"".join(pieces)
    assert decoder.octets == len(body)
    assert b"" not in pieces
    assert all(type(piece) is bytes for piece in pieces)
    return body, before


def cut(data: bytes, points: Iterable[int]) -> list[bytes]:
    """Cut at these offsets."""
    ends = [0, *sorted(points), len(data)]
    return [data[one:next_] for one, next_ in itertools.pairwise(ends)]


class TableTests(SynchronousTestCase):
    """Bodies that have led other clients astray, in every way they can come."""

    def test_reference_decoder_agrees_with_the_table(self) -> None:
        for wire, meant in BODIES:
            self.assertEqual(plain(wire + END), (meant, len(wire + END)))

    def test_body_in_one_chunk_is_decoded(self) -> None:
        for wire, meant in BODIES:
            whole = wire + END
            self.assertEqual(decode([whole]), (meant, len(whole)), whole)

    def test_body_in_single_bytes_is_decoded(self) -> None:
        for wire, meant in BODIES:
            whole = wire + END
            self.assertEqual(decode(singly(whole)), (meant, len(whole)), whole)

    @shows("quirk 6.5")
    def test_body_in_two_chunks_cut_anywhere_is_decoded(self) -> None:
        for wire, meant in BODIES:
            whole = wire + END
            for point in range(len(whole) + 1):
                self.assertEqual(
                    decode(cut(whole, [point])), (meant, len(whole)), (whole, point)
                )

    def test_body_in_three_chunks_cut_anywhere_is_decoded(self) -> None:
        for wire, meant in BODIES:
            whole = wire + END
            for points in itertools.combinations(range(1, len(whole)), 2):
                self.assertEqual(
                    decode(cut(whole, points)), (meant, len(whole)), (whole, points)
                )

    def test_bytes_after_the_body_are_left_unread(self) -> None:
        for wire, meant in BODIES:
            whole = wire + END
            for tail in (b"+OK\r\n", b".\r\n", b"\r\n.\r\n", b".", b"\r", b"\n"):
                data = whole + tail
                self.assertEqual(decode([data]), (meant, len(whole)), data)
                for point in range(len(whole)):
                    self.assertEqual(
                        decode(cut(data, [point])), (meant, len(whole)), (data, point)
                    )

    def test_body_after_its_status_line_in_the_same_chunk_is_decoded(self) -> None:
        start = len(STATUS)
        for wire, meant in BODIES:
            whole = STATUS + wire + END
            for tail in (b"", b"+OK\r\n", b".\r\n"):
                self.assertEqual(decode([whole + tail], start), (meant, len(whole)))
            for point in range(start, len(whole)):
                self.assertEqual(
                    decode(cut(whole, [point]), start),
                    (meant, len(whole)),
                    (whole, point),
                )

    def test_body_after_its_status_line_then_in_single_bytes_is_decoded(self) -> None:
        start = len(STATUS)
        for wire, meant in BODIES:
            whole = STATUS + wire + END
            for first in range(start, len(whole)):
                chunks = [whole[:first], *singly(whole[first:])]
                self.assertEqual(decode(chunks, start), (meant, len(whole)), chunks)

    def test_bytes_before_the_body_do_not_affect_decoding(self) -> None:
        for before in (b"\r\n.", b".\r\n+OK", b"..\r\n.\r\n+OK .", b"+OK\r\n.\r\n."):
            status = before + b"\r\n"
            for wire, meant in BODIES:
                whole = status + wire + END
                self.assertEqual(decode([whole], len(status)), (meant, len(whole)))


class EndMarkerTests(SynchronousTestCase):
    """The end is found, and nothing else is taken for it."""

    @shows(
        "RFC 1939-04",
        "MUST",
        "A multi-line reply ends at CRLF ``.`` CRLF, which is not part of it.",
        "The decoder finds the marker, however the octets are cut into chunks.",
    )
    def test_end_marker_split_anywhere_is_found(self) -> None:
        marker = b"\r\n.\r\n"
        for before in (b"text", b"text.", b"..", b"a\r\n..b", PROSE[:-2], SPARSE[:-2]):
            body, _ = plain(before + marker)
            for count in range(len(marker) + 1):
                for points in itertools.combinations(range(len(marker) + 1), count):
                    chunks = cut(before + marker, [len(before) + p for p in points])
                    self.assertEqual(
                        decode(chunks), (body, len(before + marker)), chunks
                    )

    def test_end_of_empty_body_split_anywhere_is_found(self) -> None:
        for count in range(len(END)):
            for points in itertools.combinations(range(1, len(END)), count):
                self.assertEqual(decode(cut(END, points)), (b"", len(END)), points)

    @shows("RFC 1939-04")
    @shows(
        "quirk 6.5",
        "A chunk that ends in ``.`` CR LF",
        "It is the end only if that is a line.",
    )
    def test_incomplete_end_marker_is_text(self) -> None:
        marker = b"\r\n.\r\n"
        for length in range(1, len(marker)):
            for other in (b"x", b"\0", b"\rx", b"\nx", b"..x"):
                wire = b"text" + marker[:length] + other + b"\r\n" + END
                expected = plain(wire)
                self.assertEqual(decode([wire]), expected, wire)
                self.assertEqual(decode(singly(wire)), expected, wire)

    def test_body_without_end_is_passed_on_up_to_a_possible_marker(self) -> None:
        for wire, open_end in [
            (b"", 0),
            (b"text", 0),
            (b"text.", 0),
            (b"text\r", 1),
            (b"text\r\n", 2),
            (b"text\r\n.", 3),
            (b"text\r\n.\r", 4),
            (b"text\r\n.x", 0),
            (b"text\n", 0),
            (b"text\n.\r", 1),
        ]:
            body, end = decode([wire])
            self.assertEqual(end, -1)
            sure = wire[: len(wire) - open_end].replace(b"\r\n.", b"\r\n")
            self.assertEqual(body, sure, wire)

    def test_at_most_four_bytes_wait_for_the_next_chunk(self) -> None:
        """What has come can be passed on at once, but for the octets in question."""
        for text in (PROSE, STUFFED, SPARSE, b"".join(wire for wire, _ in BODIES)):
            for chunks in (singly(text), cut(text, range(0, len(text), 7))):
                decoder, pieces = MultilineDecoder(), list[bytes]()
                decoder.begin(pieces.append)
                fed = b""
                for chunk in chunks:
                    self.assertEqual(decoder.feed(chunk), -1)
                    fed += chunk
                    # What a line-by-line decoder can know of it.
                    known = plain(fed + b"\r\n" + END)[0][:-2]
                    self.assertGreaterEqual(decoder.octets, len(known) - HELD)
                    self.assertTrue(known.startswith(b"".join(pieces)[:-HELD]))


class TextTests(SynchronousTestCase):
    """Long texts of each kind, for no scan suits them all."""

    @shows(
        "quirk 6.4",
        "Bare LF, bare CR, NUL, lines of megabytes",
        "They are octets of the message.",
    )
    def test_long_texts_of_every_kind_are_decoded(self) -> None:
        kinds = (
            SPARSE * 5,
            PROSE * 9,
            STUFFED * 9,
            b"." * 9000 + b"\r\n",
            b"\r\n" * 99,
        )
        for texts in itertools.product(kinds, repeat=2):
            body = b"".join(texts) + b"the last line\r\n"
            wire = stuffed(body) + END
            self.assertEqual(decode([wire]), (body, len(wire)))
            self.assertEqual(decode([STATUS + wire + b"+OK"], len(STATUS))[0], body)
            for size in (997, 4096):
                chunks = cut(wire, range(size, len(wire), size))
                self.assertEqual(decode(chunks), (body, len(wire)))

    def test_lines_about_as_long_as_the_chunks_are_decoded(self) -> None:
        for length in (8190, 8191, 8192, 8193, 16384):
            body = b"x" * length + b"\r\n.\r\n" + b"y" * length + b"\r\n"
            wire = STATUS + stuffed(body) + END
            self.assertEqual(decode([wire], len(STATUS)), (body, len(wire)))
            for size in range(8187, 8197):
                chunks = cut(wire, range(size, len(wire), size))
                self.assertEqual(decode(chunks, len(STATUS)), (body, len(wire)))

    @shows("quirk 6.4")
    def test_line_of_fifty_megabytes_is_passed_on_without_buffering(self) -> None:
        chunk = b"x" * (1 << 16)
        decoder, largest = MultilineDecoder(), 0

        def write(piece: bytes) -> None:
            nonlocal largest
            largest = max(largest, len(piece))

        decoder.begin(write)
        for _ in range(800):
            self.assertEqual(decoder.feed(chunk), -1)
        self.assertEqual(decoder.feed(b"\r\n.\r\n+OK"), 5)
        self.assertEqual(decoder.octets, 800 * len(chunk) + 2)
        # None of it was kept to be joined.
        self.assertLessEqual(largest, len(chunk) + HELD)

    def test_line_of_fifty_megabytes_in_one_chunk_is_decoded(self) -> None:
        line = bytes(50_000_000)
        pieces: list[bytes] = []
        decoder = MultilineDecoder()
        decoder.begin(pieces.append)
        self.assertEqual(decoder.feed(line), -1)
        self.assertEqual(decoder.feed(b"\r\n.\r\n"), 5)
        self.assertEqual(decoder.octets, 50_000_002)
        self.assertEqual(sum(map(len, pieces)), 50_000_002)
        self.assertEqual(pieces[-1][-2:], b"\r\n")


class WholeTests(SynchronousTestCase):
    """`decode_whole`: the short way, for short bodies that are all there"""

    START = len(STATUS)

    def test_short_body_is_returned_with_its_end(self) -> None:
        for wire, meant in BODIES:
            whole = STATUS + wire + END
            for tail in (b"", b"+OK\r\n", b".\r\n", b"\r\n.\r\n"):
                self.assertEqual(
                    decode_whole(whole + tail, self.START), (meant, len(whole)), whole
                )

    def test_bytes_before_the_body_do_not_affect_decoding(self) -> None:
        for before in (b"\r\n.", b"..\r\n.\r\n+OK .", b".\r\n.\r\n."):
            for wire, meant in BODIES:
                whole = before + b"\r\n" + wire + END
                self.assertEqual(
                    decode_whole(whole, len(before) + 2), (meant, len(whole))
                )

    def test_incomplete_body_gives_none(self) -> None:
        for wire, _ in BODIES:
            whole = STATUS + wire + END
            for length in range(self.START, len(whole)):
                self.assertIs(decode_whole(whole[:length], self.START), None)

    def test_long_body_gives_none(self) -> None:
        for text in (PROSE, STUFFED, SPARSE):
            short = STATUS + text + END
            self.assertEqual(decode_whole(short, self.START), plain(short, self.START))
            long = STATUS + text * 30 + END
            self.assertIs(decode_whole(long, self.START), None)

    def test_body_is_decoded_up_to_the_size_limit_and_not_beyond(self) -> None:
        for line in (b"x", b"..x"):
            read = []
            for length in range(SHORT - 20, SHORT + 20):
                whole = STATUS + (line * SHORT)[:length] + b"\r\n" + END
                found = decode_whole(whole, self.START)
                if found is not None:
                    self.assertEqual(found, plain(whole, self.START))
                read.append(found is not None)
            self.assertEqual(read, sorted(read, reverse=True))
            self.assertEqual((read[0], read[-1]), (True, False))


class ReuseTests(SynchronousTestCase):
    """One decoder for all the bodies of a connection."""

    def test_second_body_is_decoded_independently_of_the_first(self) -> None:
        decoder = MultilineDecoder()
        for (one, _), (two, meant) in itertools.product(BODIES, repeat=2):
            decoder.begin(lambda piece: None)
            decoder.feed(one + END)
            pieces: list[bytes] = []
            decoder.begin(pieces.append)
            self.assertEqual(decoder.octets, 0)
            self.assertEqual(decoder.feed(two + END), len(two + END))
            self.assertEqual(b"".join(pieces), meant)
            self.assertEqual(decoder.octets, len(meant))

    def test_body_after_an_interrupted_one_is_decoded_independently(self) -> None:
        decoder = MultilineDecoder()
        for open_end in (b"\r", b"\r\n", b"\r\n.", b"\r\n.\r"):
            decoder.begin(lambda piece: None)
            decoder.feed(b"x" + open_end)
            pieces: list[bytes] = []
            decoder.begin(pieces.append)
            self.assertEqual(decoder.feed(b"\ny\r\n" + END), 7)
            self.assertEqual(b"".join(pieces), b"\ny\r\n")

    def test_discarded_body_is_read_to_its_end_and_measured(self) -> None:
        decoder, pieces = MultilineDecoder(), list[bytes]()
        for point in range(1, len(b"one\r\n..two\r\n")):
            decoder.begin(pieces.append)
            wire = b"one\r\n..two\r\n" + END
            self.assertEqual(decoder.feed(wire[:point]), -1)
            del pieces[:]
            decoder.discard()
            self.assertEqual(decoder.feed(wire[point:] + b"+OK"), len(wire) - point)
            self.assertEqual(pieces, [])
            # The length of the body is known all the same.
            self.assertEqual(decoder.octets, len(b"one\r\n.two\r\n"))

    def test_exception_of_the_writer_is_raised_by_feed(self) -> None:
        decoder = MultilineDecoder()

        def write(piece: bytes) -> None:
            raise ZeroDivisionError

        for chunk in (b"text", b"text\r\n.\r\n"):
            decoder.begin(write)
            with self.assertRaises(ZeroDivisionError):
                decoder.feed(chunk)


class Stream:
    """Reads replies that are glued together, the way a connection does."""

    def __init__(self) -> None:
        self.decoder = MultilineDecoder()
        self.bodies: list[bytes] = []
        self._pieces: list[bytes] | None = None
        self._line = b""

    def receive(self, data: bytes) -> None:
        at = 0
        while True:
            if self._pieces is None:
                data, self._line, at = self._line + data[at:], b"", 0
                end = data.find(b"\r\n")
                if end < 0:
                    self._line = data
                    return
                assert data[:end] == STATUS[:-2], data[:end]
                at = end + 2
                self._pieces = []
                self.decoder.begin(self._pieces.append)
            at = self.decoder.feed(data, at)
            if at < 0:
                return
            self.bodies.append(b"".join(self._pieces))
            self._pieces = None


def glued(bodies: Iterable[bytes]) -> bytes:
    return b"".join(STATUS + stuffed(body) + END for body in bodies)


class GluedTests(SynchronousTestCase):
    """Bodies and their status lines, many in one chunk."""

    def receive(self, chunks: Iterable[bytes]) -> list[bytes]:
        stream = Stream()
        for chunk in chunks:
            stream.receive(chunk)
        return stream.bodies

    def test_many_replies_in_one_chunk_are_all_decoded(self) -> None:
        bodies = [meant for _, meant in BODIES] + [
            PROSE * 10,
            b"",
            STUFFED * 40,
            SPARSE,
        ]
        self.assertEqual(self.receive([glued(bodies)]), bodies)

    def test_many_replies_in_single_bytes_are_all_decoded(self) -> None:
        bodies = [meant for _, meant in BODIES] + [PROSE, b"", STUFFED, SPARSE]
        self.assertEqual(self.receive(singly(glued(bodies))), bodies)

    def test_replies_in_three_chunks_cut_anywhere_are_all_decoded(self) -> None:
        bodies = [b"a\r\n", b".\r\n..\r\n", b"", b"\r\n.b\r\n\r\n", b""]
        data = glued(bodies)
        for points in itertools.combinations(range(len(data) + 1), 2):
            self.assertEqual(self.receive(cut(data, points)), bodies, points)

    def test_replies_cut_near_the_start_of_each_body_are_decoded(self) -> None:
        """The rest of the body is in another chunk than its first octets."""
        bodies = [b"..a\r\n", b".\r\n", b"\r\n", b"", PROSE * 9, STUFFED * 30]
        for width in range(6):

            def pieces(width: int = width) -> Iterator[bytes]:
                for body in bodies:
                    reply = glued([body])
                    yield reply[: len(STATUS) + width]
                    yield reply[len(STATUS) + width :]

            self.assertEqual(self.receive(pieces()), bodies, width)


def _texts() -> st.SearchStrategy[bytes]:
    """Texts that are rich in what matters, and of all the kinds of dots."""
    dots = [b".", b"..", b"\r\n.", b"\r\n..", b"\r\n.\r", b".\r\n", b"\n.", b"\r."]
    bits = st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"\0", b"\xff", *dots])
    small = st.lists(bits, max_size=12).map(b"".join)
    large = st.sampled_from(
        [
            PROSE,
            PROSE * 9,
            STUFFED,
            b"\r\n" + STUFFED * 5,
            b". " * 40,
            b"." * 400,
            SPARSE,
            b"=" * 8191,
            (b"x" * 300 + b".") * 40,
            b"x\r\n..y" * 12,
        ]
    )
    return st.lists(small | small | large, max_size=5).map(b"".join)


_CUTS = st.lists(
    st.integers(0, 40) | st.integers(0, 1 << 20) | st.integers(-12, -1), max_size=8
)


def _points(cuts: list[int], length: int) -> list[int]:
    return [point % (length + 1) for point in cuts]


class ReferenceTests(SynchronousTestCase):
    """Whatever is sent and however it is cut: as line by line."""

    @shows(
        "RFC 1939-05",
        "MUST",
        "A line that begins with ``.`` loses that octet, whatever follows.",
        "Only CRLF begins a line; a bare LF or CR is text.",
    )
    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(_texts(), _CUTS, st.binary(max_size=8))
    def test_any_bytes_are_decoded_as_by_the_reference_decoder(
        self, text: bytes, cuts: list[int], tail: bytes
    ) -> None:
        """The text is on the wire as it is: with ends, and dots not stuffed."""
        wire = text + b"\r\n" + END + tail
        expected = plain(wire)
        self.assertEqual(decode([wire]), expected)
        self.assertEqual(decode(cut(wire, _points(cuts, len(wire)))), expected)
        if len(wire) < 500:
            self.assertEqual(decode(singly(wire)), expected)

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(_texts(), _CUTS, st.binary(max_size=8))
    def test_any_bytes_after_a_status_line_are_decoded_as_by_reference(
        self, text: bytes, cuts: list[int], tail: bytes
    ) -> None:
        start = len(STATUS)
        wire = STATUS + text + b"\r\n" + END + tail
        expected = plain(wire, start)
        self.assertEqual(decode([wire], start), expected)
        self.assertIn(decode_whole(wire, start), (expected, None))
        points = [start + point for point in _points(cuts, len(wire) - start)]
        self.assertEqual(decode(cut(wire, points), start), expected)

    @shows("RFC 1939-05")
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.lists(_texts().map(lambda text: text + b"\r\n"), max_size=4), _CUTS)
    def test_any_messages_come_back_as_they_were_stored(
        self, bodies: list[bytes], cuts: list[int]
    ) -> None:
        data = glued(bodies)
        for points in ([], _points(cuts, len(data))):
            stream = Stream()
            for chunk in cut(data, points):
                stream.receive(chunk)
            self.assertEqual(stream.bodies, bodies)
