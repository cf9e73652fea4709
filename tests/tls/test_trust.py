"""
Which certificates are trusted: the cacerts folder, any file in it, and its changes.
"""

from __future__ import annotations

import base64
import errno
import gc
import os
import re
import shutil
import signal
import ssl
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import SkipTest, skipIf

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from OpenSSL import SSL
from twisted.logger import LogLevel, capturedLogs, formatEvent

from pop3connect import TLSError, UsageError, VerificationError
from pop3connect.tls import certificates
from pop3connect.tls.context import ClientContext, ContextKeeper
from pop3connect.tls.trust import CACERTS_VARIABLE, Folder, Trust

from ..support.certificates import (
    HOST,
    ServerTLS,
    Shown,
    TLSTestCase,
    authority,
    behind_intermediate,
    certificate_of,
    client_identity,
    expired,
    expired_authority,
    intermediate,
    leaf,
    make_authority,
    right,
    self_signed,
    shake_hands,
    unknown_ca,
    wrong_host,
)
from ..support.shows import shows

JUNK = b"\x00\x01 this is no certificate \xff\xfe" * 50

BAD_PEM = (
    b"-----BEGIN CERTIFICATE-----\n"
    b"MIIBszCCAVmgAwIBAgIUNoCertificateAtAll\n"
    b"-----END CERTIFICATE-----\n"
)

# By "Somebody Else's CA".  Always the same one: whether a damaged certificate can still
# be parsed depends on all of its bytes.
FIXED_DER = base64.b64decode(
    "MIIBozCCAUmgAwIBAgIUbrkGlnh5NFjhSyRQIRDggk2pA8AwCgYIKoZIzj0EAwIwLTEOMAwGA1UE"
    "CgwFVGVzdHMxGzAZBgNVBAsMElNvbWVib2R5IEVsc2UncyBDQTAgFw0wMDAxMDEwMDAwMDBaGA8z"
    "MDAwMDEwMTAwMDAwMFowLTEOMAwGA1UECgwFVGVzdHMxGzAZBgNVBAsMElNvbWVib2R5IEVsc2Un"
    "cyBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMdED6XiEcg4N1o7tMnod2lYxI2fSSgJ7HQI"
    "yWgIYrozLa30IPPTS93F0nmJdEKvuTLmLjuookoy39WDMyj2knGjRTBDMB0GA1UdDgQWBBQfHlYP"
    "m+/9uN126vDO3YHYjnIz+jASBgNVHRMBAf8ECDAGAQH/AgEJMA4GA1UdDwEB/wQEAwIBhjAKBggq"
    "hkjOPQQDAgNIADBFAiEAysfBm4fA/thLYHh0gKYbHANol3ARPwLzOJhobnlnzg4CIF1DOkzBLsVU"
    "Ni9etHxBdPHGKVrIWykfo0EJy2mjWqTv"
)

# Its name is not UTF-8: cryptography parses that, and OpenSSL does not.
NAME_NOT_UTF_8 = FIXED_DER.replace(b"Somebody", b"Someb\xffdy")


def pem(ca: trustme.CA) -> bytes:
    return ca.cert_pem.bytes()


def der(ca: trustme.CA) -> bytes:
    return certificate_of(ca).public_bytes(Encoding.DER)


def bundle(encoding: Encoding, *cas: trustme.CA) -> bytes:
    """
    Return a PKCS #7 bundle, as Windows and some CAs hand them out.
    """
    return pkcs7.serialize_certificates([*map(certificate_of, cas)], encoding)


def somebody() -> trustme.CA:
    return authority("Somebody Else's CA")


def trusting(folder: Path) -> Trust:
    return Trust.choose(folder, False, {})


class Sliced(bytes):
    """
    The content of a file.

    :ivar taken: the bytes of the parts that were taken out of it.
    """

    taken = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, bytes):
            self.taken += len(part)
        return part


@contextmanager
def not_forever() -> Iterator[None]:
    """
    Fail where something would block for ever.
    """

    def give_up(*_: object) -> None:
        raise AssertionError("it blocks")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def without_privileges() -> Iterator[None]:
    """
    Run as a user to whom file permissions apply: root may read everything.
    """
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError as error:  # pragma: no cover
        raise SkipTest(f"cannot give up privileges: {error}") from None
    try:
        yield
    finally:
        os.seteuid(0)


class TrustTestCase(TLSTestCase):
    def environment(self, **variables: str) -> None:
        """
        Set environment variables for one test.
        """
        for variable, value in variables.items():
            self.addCleanup(self._put_back, variable, os.environ.get(variable))
            os.environ[variable] = value

    @staticmethod
    def _put_back(variable: str, value: str | None) -> None:
        os.environ.pop(variable, None)
        if value is not None:
            os.environ[variable] = value

    def setUp(self) -> None:
        super().setUp()
        self.environment(**{CACERTS_VARIABLE: ""})

    def reads(self, files: Mapping[str, bytes]) -> list[str]:
        """
        Check that a folder with these files makes us trust `authority`.

        :return: the warnings.
        """
        return self.reads_folder(self.folder(files))

    def reads_folder(self, folder: Path) -> list[str]:
        with capturedLogs() as events:
            self.accepts(right(), cacerts=folder)
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        return [text for event in warnings if "cacerts" in (text := formatEvent(event))]


class FileTests(TrustTestCase):
    """
    What a file in the folder may be.
    """

    def test_pem_file_is_read(self) -> None:
        """PEM is read."""
        self.assertEqual(self.reads({"ca.pem": pem(authority())}), [])

    def test_der_file_is_read(self) -> None:
        """DER is read."""
        self.assertEqual(self.reads({"ca.der": der(authority())}), [])

    @shows(
        "certificate 3.7",
        "a file of any name, or without a suffix",
        "the certificates in it: PEM, DER or PKCS #7",
    )
    def test_file_with_any_suffix_or_none_is_read(self) -> None:
        """The name of a file does not say what is in it."""
        for file in (
            *("ca.pem", "ca.crt", "ca.cer", "ca.der", "ca.PEM", "ca.CER"),
            *("ca.cert", "ca.p7b", "ca.p7c", "ca.txt", "ca.ca-bundle", "ca.pem.bak"),
            *("9d66eef0.0", "ca", "our own CA (new)", "zoë.crt", "-x.der", "a.b.c"),
        ):
            for content in (pem(authority()), der(authority())):
                self.assertEqual(self.reads({file: content}), [], file)

    def test_file_name_that_is_not_utf_8_is_read(self) -> None:
        folder = self.folder({})
        Path(os.fsdecode(os.fsencode(folder) + b"/z\xf6.crt")).write_bytes(
            pem(authority())
        )
        self.assertEqual(self.reads_folder(folder), [])

    @shows("certificate 3.9", "a hidden file (``.ca.pem``)", "nothing")
    def test_hidden_files_are_ignored(self) -> None:
        """They belong to editors, file managers and version control."""
        files = {
            ".ca.pem.swp": pem(somebody()),
            ".pem": pem(somebody()),
            ".DS_Store": JUNK,
            "ca.pem": pem(authority()),
        }
        folder = self.folder(files)
        (folder / ".git").mkdir()
        self.assertEqual(self.reads_folder(folder), [])
        self.refuses(unknown_ca(), cacerts=folder)

    @shows(
        "certificate 3.8",
        "a link to a file, as distributions make them (``9d66eef0.0``)",
        "the file, once",
    )
    def test_links_of_a_distribution_are_read(self) -> None:
        """``c_rehash`` and Debian make links called by a hash; a file counts once."""
        elsewhere = self.folder({"Our_CA.crt": pem(authority())})
        folder = self.folder({})
        (folder / "Our_CA.pem").symlink_to(elsewhere / "Our_CA.crt")
        (folder / "9d66eef0.0").symlink_to("Our_CA.pem")
        (folder / "7f1b5a5c.0").symlink_to("Our_CA.pem")
        self.assertEqual(self.reads_folder(folder), [])

    def test_text_around_pem_blocks_is_ignored(self) -> None:
        """Text before, between and after PEM blocks is what many bundles have."""
        content = b"# Our CA\r\n\xc3\xbc\r\n" + pem(authority()) + b"\nthat was it"
        self.assertEqual(self.reads({"ca.pem": content}), [])

    def test_text_that_begins_like_der_is_ignored(self) -> None:
        """The text may begin with a zero, which is how DER begins."""
        self.assertEqual(
            self.reads({"ca.pem": b"0001 Our CA\n" + pem(authority())}), []
        )

    def test_crlf_and_byte_order_mark_are_accepted(self) -> None:
        """CRLF line ends and a byte order mark do no harm."""
        content = b"\xef\xbb\xbf" + pem(authority()).replace(b"\n", b"\r\n")
        self.assertEqual(self.reads({"ca.crt": content}), [])

    def test_x509_certificate_label_is_accepted(self) -> None:
        """``X509 CERTIFICATE`` is an old label of the same thing."""
        content = pem(authority()).replace(b"CERTIFICATE", b"X509 CERTIFICATE")
        self.assertEqual(self.reads({"ca.crt": content}), [])

    def test_private_key_beside_certificate_is_ignored(self) -> None:
        """A file may have the key of the CA in it as well."""
        content = authority().private_key_pem.bytes() + pem(authority())
        self.assertEqual(self.reads({"ca.pem": content}), [])

    def test_all_certificates_of_a_pem_bundle_are_trusted(self) -> None:
        """All of a bundle is trusted."""
        for order in ((authority(), somebody()), (somebody(), authority())):
            folder = self.folder({"all.pem": b"".join(map(pem, order))})
            self.accepts(right(), cacerts=folder)
            self.accepts(unknown_ca(), cacerts=folder)

    def test_all_certificates_of_a_pkcs7_bundle_are_trusted(self) -> None:
        """So is all of a PKCS #7 bundle, in PEM and in DER."""
        for encoding in (Encoding.PEM, Encoding.DER):
            folder = self.folder({"all.cer": bundle(encoding, authority(), somebody())})
            self.assertEqual(self.reads_folder(folder), [])
            self.accepts(unknown_ca(), cacerts=folder)

    @shows("certificate 3.7")
    def test_pkcs7_with_any_label_is_read(self) -> None:
        """OpenSSL has other labels, and Windows writes CERTIFICATE over PKCS #7."""
        content = bundle(Encoding.PEM, authority(), somebody())
        for label in (b"PKCS #7 SIGNED DATA", b"CMS", b"CERTIFICATE"):
            folder = self.folder({"all.p7b": content.replace(b"PKCS7", label)})
            self.assertEqual(self.reads_folder(folder), [], label)
            self.accepts(unknown_ca(), cacerts=folder)

    @shows("certificate 3.7")
    def test_der_certificates_joined_in_one_file_are_trusted(self) -> None:
        """``cat *.der > all.der``"""
        folder = self.folder({"all.der": der(somebody()) + der(authority())})
        self.assertEqual(self.reads_folder(folder), [])
        self.accepts(unknown_ca(), cacerts=folder)

    def test_pkcs7_without_certificates_is_named_in_warning(self) -> None:
        # SEQUENCE { signedData, [0] { SEQUENCE { 1, SET {}, { data }, SET {} } } }
        empty = bytes.fromhex(
            "302306092a864886f70d010702a016301402010131 00300b06092a864886f70d010701"
            "3100".replace(" ", "")
        )
        files = {"empty.p7b": empty, "ca.pem": pem(authority())}
        (warning,) = self.reads(files)
        self.assertIn("empty.p7b", warning)
        self.assertIn("no certificate", warning)

    def test_certificates_of_all_files_are_trusted(self) -> None:
        """All files are trusted."""
        folder = self.folder({"a.pem": pem(somebody()), "b.der": der(authority())})
        self.accepts(right(), cacerts=folder)
        self.accepts(unknown_ca(), cacerts=folder)

    def test_same_certificate_in_two_files_is_accepted(self) -> None:
        """The same certificate may be in two files."""
        files = {"a.pem": pem(authority()), "b.der": der(authority())}
        self.assertEqual(self.reads(files), [])

    def test_link_to_a_file_is_followed(self) -> None:
        """A link is followed."""
        elsewhere = self.folder({"real": pem(authority())})
        folder = self.folder({})
        (folder / "link.pem").symlink_to(elsewhere / "real")
        self.assertEqual(self.reads_folder(folder), [])

    def test_link_to_the_folder_is_followed(self) -> None:
        """So is a link to the folder itself."""
        link = self.folder({}) / "cacerts"
        link.symlink_to(self.folder([authority()]))
        self.assertEqual(self.reads_folder(link), [])

    def test_intermediate_is_trusted_without_its_root(self) -> None:
        """Any certificate in the folder is trusted, not only a root."""
        self.accepts(
            behind_intermediate(sent=False), cacerts=self.folder([intermediate()])
        )

    def test_ca_outside_the_folder_is_refused(self) -> None:
        """With a folder, no other CA is trusted."""
        error = self.refuses(unknown_ca(), cacerts=self.folder([authority()]))
        self.assertSays(error, "not trusted")


class BadFileTests(TrustTestCase):
    """
    One bad file is named, and does no harm to the others.
    """

    def warns(self, name: str, content: bytes, *words: str) -> None:
        """
        Check that a file is named in the only warning.
        """
        files = {"good.pem": pem(authority()), name: content}
        (warning,) = self.reads(files)
        for word in (name, *words):
            self.assertIn(word, warning)

    @shows(
        "certificate 3.11",
        "a file without a certificate, or with one that is invalid",
        "the rest; the file is named in the log, and in a refusal that it may explain",
    )
    def test_junk_file_is_named_in_warning(self) -> None:
        self.warns("junk.pem", JUNK, "no certificate")

    def test_empty_file_is_named_in_warning(self) -> None:
        self.warns("empty.crt", b"", "no certificate")

    def test_pem_block_without_end_is_named_in_warning(self) -> None:
        """A block without an end, as in a truncated copy, does not count."""
        self.warns("half.pem", pem(somebody())[:200], "no certificate")

    def test_whole_block_after_truncated_block_is_used(self) -> None:
        """The whole one behind it is used."""
        content = pem(somebody())[:200] + b"\n" + pem(authority())
        (warning,) = self.reads({"ca.pem": content})
        self.assertIn("1 certificate(s)", warning)

    def test_truncated_block_after_whole_block_is_counted_in_warning(self) -> None:
        """A truncated bundle is named in a warning: a CA is missing from it."""
        content = pem(authority()) + pem(somebody())[:200]
        (warning,) = self.reads({"ca.pem": content})
        self.assertIn("1 certificate(s)", warning)

    def test_block_with_mismatched_end_is_named_in_warning(self) -> None:
        """A block ends with the words that it began with."""
        content = pem(somebody()).replace(b"END CERTIFICATE", b"END PKCS7")
        self.warns("odd.pem", content, "no certificate")

    def test_file_with_only_a_key_is_named_in_warning(self) -> None:
        """A key is not a certificate, and is not shown."""
        key = authority().private_key_pem.bytes()
        self.warns("key.pem", key, "no certificate")

    def test_invalid_pem_is_named_in_warning(self) -> None:
        self.warns("bad.pem", BAD_PEM, "invalid")

    def test_invalid_der_is_named_in_warning(self) -> None:
        """Something that begins like DER is counted as a bad certificate."""
        self.warns("bad.der", der(somebody())[:-20], "invalid")

    def test_certificate_that_only_cryptography_parses_is_named_in_warning(
        self,
    ) -> None:
        x509.load_der_x509_certificate(NAME_NOT_UTF_8)
        self.warns("odd.der", NAME_NOT_UTF_8, "no certificate but 1 invalid")
        odd = ssl.DER_cert_to_PEM_cert(NAME_NOT_UTF_8).encode()
        (warning,) = self.reads({"mixed.pem": odd + pem(authority())})
        self.assertIn("has 1 certificate(s) that are invalid", warning)

    def test_bundle_with_a_certificate_that_openssl_refuses_harms_no_other(
        self,
    ) -> None:
        content = bundle(Encoding.DER, make_authority("Odd CA"), somebody())
        self.warns("odd.p7b", content.replace(b"Odd CA", b"Odd\xffCA"), "invalid")

    def test_invalid_pkcs7_is_named_in_warning(self) -> None:
        block = bundle(Encoding.PEM, somebody())
        self.warns("bad.cer", block[:60] + block[100:], "invalid")

    def test_valid_certificates_are_used_and_invalid_ones_counted(self) -> None:
        """What is good in a bundle is used, and the bad counted."""
        for content in (
            BAD_PEM + pem(authority()),
            pem(authority()) + BAD_PEM,
            BAD_PEM + pem(authority()) + BAD_PEM,
        ):
            (warning,) = self.reads({"mixed.pem": content})
            bad = content.count(BAD_PEM)
            self.assertIn("mixed.pem", warning)
            self.assertIn(f"{bad} certificate(s)", warning)

    @shows("certificate 3.11")
    def test_each_bad_file_is_named_in_its_own_warning(self) -> None:
        """Several bad files are several warnings, and all that is good is used."""
        files = {
            "1.pem": JUNK,
            "2.pem": pem(authority()),
            "3.pem": BAD_PEM,
            "4.pem": pem(somebody()),
            "5.pem": b"",
        }
        folder = self.folder(files)
        warnings = self.reads_folder(folder)
        self.assertEqual(len(warnings), 3)
        for name, warning in zip(("1.pem", "3.pem", "5.pem"), warnings, strict=True):
            self.assertIn(str(folder / name), warning)
        self.accepts(unknown_ca(), cacerts=folder)

    @shows("certificate 3.10")
    def test_subfolder_is_named_in_warning_and_not_entered(self) -> None:
        """Files in a folder below are not read."""
        folder = self.folder([authority()])
        (folder / "more.pem").mkdir()
        (folder / "more.pem" / "x.pem").write_bytes(pem(somebody()))
        (warning,) = self.reads_folder(folder)
        self.assertIn(str(folder / "more.pem"), warning)
        self.refuses(unknown_ca(), cacerts=folder)

    def test_dangling_link_is_named_in_warning(self) -> None:
        folder = self.folder([authority()])
        (folder / "gone.pem").symlink_to(folder / "nowhere")
        (warning,) = self.reads_folder(folder)
        self.assertIn(str(folder / "gone.pem"), warning)

    def test_link_to_itself_is_named_in_warning(self) -> None:
        folder = self.folder([authority()])
        (folder / "loop.pem").symlink_to(folder / "loop.pem")
        (warning,) = self.reads_folder(folder)
        self.assertIn(str(folder / "loop.pem"), warning)

    def test_pipe_is_named_in_warning_and_does_not_block(self) -> None:
        """A pipe would block the reactor until another process writes to it."""
        folder = self.folder([authority()])
        os.mkfifo(folder / "pipe")
        with not_forever():
            (warning,) = self.reads_folder(folder)
        self.assertIn(f"{folder / 'pipe'} cannot be read", warning)
        self.assertIn("not a regular file", warning)

    @shows(
        "certificate 3.10",
        "a pipe, a device, a folder",
        "nothing; it is not opened, and is named in the log",
    )
    def test_pipe_is_not_opened(self) -> None:
        """Its writer would otherwise learn that there is a reader, and go on."""
        folder = self.folder([authority()])
        os.mkfifo(folder / "pipe")
        self.reads_folder(folder)
        # ENXIO: no process has it open for reading, and none has had.
        with self.assertRaises(OSError) as caught:
            os.open(folder / "pipe", os.O_WRONLY | os.O_NONBLOCK)
        self.assertEqual(caught.exception.errno, errno.ENXIO)

    @shows("certificate 3.10")
    def test_device_is_named_in_warning_and_not_read(self) -> None:
        """``/dev/zero`` has no end."""
        folder = self.folder([authority()])
        (folder / "zero.pem").symlink_to("/dev/zero")
        with not_forever():
            (warning,) = self.reads_folder(folder)
        self.assertIn(str(folder / "zero.pem"), warning)
        self.assertIn("not a regular file", warning)

    def test_control_characters_in_file_name_are_escaped_in_warning(self) -> None:
        (warning,) = self.reads({"ca.pem": pem(authority()), "a\nb\x1b[2J": JUNK})
        self.assertTrue(warning.isprintable(), warning)
        self.assertIn("a\\nb", warning)

    @shows(
        "certificate 3.12",
        "a certificate in OpenSSL's form ``TRUSTED CERTIFICATE``",
        "nothing, because the purposes in it would not be read; it is named in the log",
    )
    def test_openssl_trusted_certificate_is_named_in_warning(self) -> None:
        """It says for what it is trusted, perhaps for nothing, which is not read."""
        content = pem(somebody()).replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")
        self.warns("trusted.crt", content, "invalid")

    def test_unreadable_file_is_named_in_warning(self) -> None:
        """A file that only another user may read is named."""
        # The other user may not be allowed to import modules that are still missing.
        self.accepts(right())
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        folder.chmod(0o755)
        (folder / "good.pem").write_bytes(pem(authority()))
        (folder / "secret.pem").write_bytes(pem(somebody()))
        (folder / "good.pem").chmod(0o644)
        (folder / "secret.pem").chmod(0)
        with without_privileges():
            (warning,) = self.reads_folder(folder)
        self.assertIn(str(folder / "secret.pem"), warning)
        self.assertIn("ermission", warning)

    def test_large_junk_file_is_named_in_warning(self) -> None:
        """10 MB of junk are read, and named, and that is all."""
        self.warns("junk.pem", os.urandom(1 << 20) * 10, "no certificate")

    def test_large_junk_that_begins_like_der_is_named_in_warning(self) -> None:
        """Also if it begins as DER does."""
        self.warns("junk.der", b"\x30\x83\x98\x96\x80" + bytes(10_000_000), "invalid")

    def test_file_above_size_limit_is_named_in_warning(self) -> None:
        """No bundle has 65 MB; such a file is not read into memory."""
        folder = self.folder([authority()])
        with (folder / "disk.der").open("wb") as disk:
            disk.truncate(65 * 1024 * 1024 + 1)
        (warning,) = self.reads_folder(folder)
        self.assertIn(str(folder / "disk.der"), warning)
        self.assertIn("too large", warning)

    def test_pem_blocks_without_end_are_not_followed_to_the_end(self) -> None:
        """
        Each beginning of PEM without an end is looked at once.

        If each of them is followed to the end of the file, 100 KB take seconds, and
        10 MB hours in which the reactor stands still.
        """
        junk = Sliced(b"-----BEGIN CERTIFICATE-----\nMIIB\n" * 3000)
        self.assertEqual(certificates.read_certificates(junk), ([], 3000))
        self.assertLessEqual(junk.taken, len(junk))
        # No search can run further than a line either.
        patterns = [
            each.pattern
            for each in vars(certificates).values()
            if isinstance(each, re.Pattern)
        ]
        self.assertNotEqual(patterns, [])
        for pattern in patterns:
            self.assertIsNone(re.search(rb"[*+]|,\}", pattern), pattern)

    def test_many_small_der_values_are_looked_at_once(self) -> None:
        """The same for DER; a text that begins with many zeros looks like that too."""
        for content in (b"\x30\x00" * 100_000, b"0" * 2_000_000):
            junk = Sliced(content)
            handed: list[bytes] = []

            def unbundled(block: bytes, handed: list[bytes] = handed) -> list[bytes]:
                handed.append(block)
                return []

            self.patch(certificates, "_unbundled", unbundled)
            self.assertEqual(certificates.read_certificates(junk), ([], 0))
            self.assertLessEqual(len(handed), len(junk) / 100 + 1)
            self.assertLessEqual(sum(map(len, handed)), len(junk))
            self.assertLessEqual(junk.taken, 2 * len(junk))

    def test_warning_is_not_repeated_at_next_connection(self) -> None:
        """The warning comes when the folder is read, not with each connection."""
        folder = self.folder({"good.pem": pem(authority()), "bad.pem": JUNK})
        self.assertEqual(len(self.reads_folder(folder)), 1)
        self.assertEqual(self.reads_folder(folder), [])


class UnusableFileInErrorTests(TrustTestCase):
    """
    The file that was meant to make a server trusted may be one that cannot be used.
    """

    @shows("certificate 3.11")
    def test_refused_issuer_names_unusable_files(self) -> None:
        folder = self.folder({"good.pem": pem(authority()), "theirs.txt": JUNK})
        error = self.refuses(unknown_ca(), cacerts=folder)
        self.assertSays(error, f"{folder / 'theirs.txt'} holds no certificate")

    def test_refused_self_signed_certificate_names_unusable_files(self) -> None:
        shown = self_signed()
        half = shown.pem[:300]
        folder = self.folder({"good.pem": pem(authority()), "half": half})
        error = self.refuses(shown, cacerts=folder)
        self.assertSays(error, "self-signed", str(folder / "half"))

    def test_refused_ca_of_the_chain_names_unusable_files(self) -> None:
        """Its successor may be in that file."""
        ca = expired_authority()
        folder = self.folder({"old.pem": pem(ca), "new.pem": b""})
        error = self.refuses(leaf(HOST, by=ca), cacerts=folder)
        self.assertSays(error, "expired", str(folder / "new.pem"))

    def test_refused_name_does_not_name_unusable_files(self) -> None:
        """No file could help."""
        folder = self.folder({"good.pem": pem(authority()), "junk": JUNK})
        for shown in (wrong_host(), expired()):
            error = self.refuses(shown, cacerts=folder)
            self.assertNotIn("junk", str(error))

    def test_five_unusable_files_are_named_and_the_others_counted(self) -> None:
        files = {f"{number}.txt": JUNK for number in range(7)}
        folder = self.folder({"good.pem": pem(authority()), **files})
        error = self.refuses(unknown_ca(), cacerts=folder)
        self.assertSays(error, folder / "4.txt", "and 2 more")
        self.assertNotIn("5.txt", str(error))


class NoUsableFolderTests(TrustTestCase):
    """
    A folder that is of no use is an error before anybody is called, with a remedy.
    """

    def test_missing_folder_is_rejected_with_remedy(self) -> None:
        folder = self.folder({}) / "missing"
        error = self.rejects(UsageError, cacerts=folder)
        self.assertSays(error, folder, "does not exist", "cacerts", "CAs to trust")

    def test_dangling_link_as_folder_is_rejected(self) -> None:
        link = self.folder({}) / "link"
        link.symlink_to(link.with_name("nowhere"))
        self.assertSays(self.rejects(UsageError, cacerts=link), link)

    @shows(
        "certificate 3.13",
        "nothing that can be used",
        "nothing; ``connect()`` fails with an error that names the folder",
    )
    def test_empty_folder_is_rejected_with_remedy(self) -> None:
        folder = self.folder({})
        error = self.rejects(TLSError, cacerts=folder)
        self.assertSays(error, folder, "no usable certificate")
        self.assertSays(error, "put the CA's certificate (PEM, DER or PKCS #7) there")

    @shows("certificate 3.13")
    def test_folder_with_only_bad_files_names_them_in_error(self) -> None:
        """The error names the files, because they are what is wrong."""
        folder = self.folder({"junk.pem": JUNK, "bad.crt": BAD_PEM})
        error = self.rejects(TLSError, cacerts=folder)
        self.assertSays(error, folder, "no usable certificate", "put the CA's")
        self.assertSays(error, folder / "junk.pem", folder / "bad.crt")

    def test_error_stays_short_with_hundreds_of_bad_files(self) -> None:
        """Not all of hundreds of files are named."""
        folder = self.folder({f"{number}.pem": JUNK for number in range(300)})
        error = self.rejects(TLSError, cacerts=folder)
        self.assertLess(len(str(error)), 3000)

    def test_empty_folder_is_rejected_even_with_system_trust(self) -> None:
        """
        An empty folder is an error with ``system_trust`` too.

        A user who names a folder wants its certificates to count.
        """
        error = self.rejects(TLSError, cacerts=self.folder({}), system_trust=True)
        self.assertSays(error, "no usable certificate")

    def test_unreadable_folder_is_rejected(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        (folder / "ca.pem").write_bytes(pem(authority()))
        folder.chmod(0)
        with without_privileges():
            error = self.rejects(TLSError, cacerts=folder)
        self.assertSays(error, folder, "cannot be read", "ermission")

    def test_folder_inside_an_inaccessible_folder_is_rejected(self) -> None:
        """A folder inside one that we may not enter is an error of ours too."""
        outside = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, outside)
        (outside / "cacerts").mkdir()
        outside.chmod(0)
        with without_privileges():
            error = self.rejects(UsageError, cacerts=outside / "cacerts")
        self.assertSays(error, outside / "cacerts")

    def test_path_that_is_too_long_is_rejected(self) -> None:
        """What the system says about a path is no reason for an exception of its."""
        name = "x" * 300
        self.assertSays(self.rejects(UsageError, cacerts=name), name)

    def test_value_that_is_not_a_path_is_rejected(self) -> None:
        for cacerts in (3, ["folder"], True):
            error = self.rejects(UsageError, cacerts=cacerts)
            self.assertSays(error, "cacerts", "path")

    def test_empty_path_is_rejected(self) -> None:
        """
        An empty setting is a mistake, and does not mean the current folder.

        ``Path("")`` is that; any user who can write there could add a trusted CA.
        """
        self.assertSays(self.rejects(UsageError, cacerts=""), "cacerts")

    def test_path_with_nul_is_rejected(self) -> None:
        self.assertSays(self.rejects(UsageError, cacerts="a\0b"), "cacerts")

    def test_error_names_the_server(self) -> None:
        """The error says for which server it was."""
        error = self.rejects(TLSError, cacerts=self.folder({}))
        self.assertEqual(error.server, f"{HOST}:995")


class ChangeTests(TrustTestCase):
    """
    A change of the folder counts at the next connection, without a restart.
    """

    def setUp(self) -> None:
        super().setUp()
        self.there = self.folder({"somebody.pem": pem(somebody())})

    @shows(
        "feature 1.3",
        "Your own CAs",
        "a folder that is read again when it changes, a file, bytes, or a trust root "
        "of Twisted",
    )
    @shows(
        "certificate 3.14",
        "a change",
        "the new contents, from the next connection on",
    )
    def test_added_ca_is_trusted_at_next_connection(self) -> None:
        """The remedy in the error works at once."""
        self.refuses(right(), cacerts=self.there)
        (self.there / "ours.pem").write_bytes(pem(authority()))
        self.accepts(right(), cacerts=self.there)
        self.accepts(unknown_ca(), cacerts=self.there)

    @shows("RFC 8314-05")
    @shows("attack 2.4")
    @shows("certificate 3.14")
    def test_removed_ca_is_refused_at_next_connection(self) -> None:
        """Trust is withdrawn."""
        (self.there / "ours.pem").write_bytes(pem(authority()))
        self.accepts(right(), cacerts=self.there)
        (self.there / "ours.pem").unlink()
        self.refuses(right(), cacerts=self.there)
        self.accepts(unknown_ca(), cacerts=self.there)

    def test_ca_renamed_to_hidden_file_is_refused_at_next_connection(self) -> None:
        """Hiding a file withdraws trust as well."""
        self.accepts(unknown_ca(), cacerts=self.there)
        (self.there / "ours.pem").write_bytes(pem(authority()))
        (self.there / "somebody.pem").rename(self.there / ".somebody.pem")
        self.refuses(unknown_ca(), cacerts=self.there)

    def test_file_without_suffix_is_trusted_at_next_connection(self) -> None:
        self.refuses(right(), cacerts=self.there)
        (self.there / "ours").write_bytes(pem(authority()))
        self.accepts(right(), cacerts=self.there)

    def test_ca_file_overwritten_in_place_is_read_again(self) -> None:
        self.accepts(unknown_ca(), cacerts=self.there)
        (self.there / "somebody.pem").write_bytes(pem(authority()))
        self.refuses(unknown_ca(), cacerts=self.there)
        self.accepts(right(), cacerts=self.there)

    def test_ca_file_replaced_by_rename_is_read_again(self) -> None:
        self.accepts(unknown_ca(), cacerts=self.there)
        (self.there / "new").write_bytes(pem(authority()))
        (self.there / "new").replace(self.there / "somebody.pem")
        self.refuses(unknown_ca(), cacerts=self.there)
        self.accepts(right(), cacerts=self.there)

    def test_ca_file_replaced_with_same_size_and_mtime_is_read_again(self) -> None:
        """
        Another file of the same size and time of modification is another file.

        Tools that set all times to one value (reproducible images, packages) and
        write in place leave nothing else behind than the time of change.
        """
        file = self.there / "somebody.pem"
        size = max(map(len, map(pem, (somebody(), authority()))))

        def put(ca: trustme.CA) -> None:
            file.write_bytes(pem(ca).ljust(size, b"\n"))
            os.utime(file, (1, 1))

        put(somebody())
        self.accepts(unknown_ca(), cacerts=self.there)
        before = file.stat()
        put(authority())
        after = file.stat()
        self.assertEqual(
            (before.st_size, before.st_mtime_ns, before.st_ino),
            (after.st_size, after.st_mtime_ns, after.st_ino),
        )
        self.refuses(unknown_ca(), cacerts=self.there)
        self.accepts(right(), cacerts=self.there)

    def test_changed_target_of_link_is_read_again(self) -> None:
        """What counts is the file behind a link."""
        link, target = self.there / "link.pem", self.there / "target"
        target.write_bytes(pem(authority()))
        link.symlink_to(target)
        self.accepts(right(), cacerts=self.there)
        target.write_bytes(pem(intermediate()))
        self.refuses(right(), cacerts=self.there)

    def test_redirected_link_inside_folder_is_read_again(self) -> None:
        """Kubernetes changes a mounted folder by turning one link inside it."""
        for version, ca in (("1", somebody()), ("2", authority())):
            (self.there / version).mkdir()
            (self.there / version / "ca").write_bytes(pem(ca))
        (self.there / "somebody.pem").unlink()
        (self.there / "data").symlink_to("1")
        (self.there / "ca.pem").symlink_to(Path("data") / "ca")
        self.accepts(unknown_ca(), cacerts=self.there)
        (self.there / "data").unlink()
        (self.there / "data").symlink_to("2")
        self.refuses(unknown_ca(), cacerts=self.there)
        self.accepts(right(), cacerts=self.there)

    def test_refilled_folder_is_accepted_after_an_error(self) -> None:
        """The error of one connection does not stay."""
        self.accepts(unknown_ca(), cacerts=self.there)
        (self.there / "somebody.pem").unlink()
        self.rejects(TLSError, cacerts=self.there)
        (self.there / "again.pem").write_bytes(pem(somebody()))
        self.accepts(unknown_ca(), cacerts=self.there)

    def test_removed_folder_is_rejected_at_next_connection(self) -> None:
        self.accepts(unknown_ca(), cacerts=self.there)
        shutil.rmtree(self.there)
        self.assertSays(self.rejects(UsageError, cacerts=self.there), self.there)

    def test_repaired_ca_file_is_trusted_at_next_connection(self) -> None:
        file = self.there / "ours.pem"
        file.write_bytes(pem(authority())[:-30])
        self.refuses(right(), cacerts=self.there)
        file.write_bytes(pem(authority()))
        self.accepts(right(), cacerts=self.there)

    @shows("attack 2.4")
    def test_open_session_continues_after_its_ca_is_removed(self) -> None:
        """An open session is not concerned."""
        handle = self.log_in(ServerTLS(unknown_ca()), cacerts=self.there)
        server = self.server
        (self.there / "somebody.pem").write_bytes(pem(authority()))
        self.accepts(right(), cacerts=self.there)
        answer = handle.noop()
        server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.successResultOf(answer))
        server.lose()


class SharingTests(TrustTestCase):
    """
    A connector keeps its context as long as what it was made from is the same.
    """

    def keeper(self, folder: Path, certificate: str | None = None) -> ContextKeeper:
        return ContextKeeper(trusting(folder), certificate)

    def test_context_is_kept_while_folder_is_unchanged(self) -> None:
        """A thousand connections read the certificates once."""
        keeper = self.keeper(self.folder([authority()]))
        self.assertIs(keeper.current(), keeper.current())

    def test_context_is_kept_when_only_ignored_files_change(self) -> None:
        """A hidden file, or one within a folder in the folder, changes nothing."""
        folder = self.folder([authority()])
        (folder / "old").mkdir()
        keeper = self.keeper(folder)
        before = keeper.current()
        (folder / ".notes").write_bytes(b"")
        (folder / "old" / "ca.pem").write_bytes(pem(somebody()))
        self.assertIs(keeper.current(), before)

    def test_context_is_made_again_after_folder_changed(self) -> None:
        folder = self.folder([authority()])
        keeper = self.keeper(folder)
        before = keeper.current()
        (folder / "more.pem").write_bytes(pem(somebody()))
        after = keeper.current()
        self.assertIsNot(after, before)
        self.assertIs(keeper.current(), after)

    def test_context_is_made_again_after_client_certificate_changed(self) -> None:
        identity = client_identity("ada")
        there = self.folder({"ada.txt": identity.pem + identity.key_pem}) / "ada.txt"
        keeper = self.keeper(self.folder([authority()]), str(there))
        before = keeper.current()
        other = client_identity("grace")
        there.write_bytes(other.pem + other.key_pem + b"\n")
        self.assertIsNot(keeper.current(), before)

    def test_session_without_verification_makes_no_other_lose_it(self) -> None:
        folder = self.folder([authority()])
        self.log_in(ServerTLS(unknown_ca()), verify=False)
        self.server.lose()
        self.refuses(unknown_ca(), cacerts=folder)

    def test_two_folders_in_use_keep_their_own_trust(self) -> None:
        """Sessions under different trust do not get mixed up."""
        ours, others = self.folder([authority()]), self.folder([somebody()])
        for _ in range(2):
            self.accepts(right(), cacerts=ours)
            self.refuses(right(), cacerts=others)
            self.accepts(unknown_ca(), cacerts=others)
            self.refuses(unknown_ca(), cacerts=ours)

    def test_context_is_dropped_with_its_keeper(self) -> None:
        keeper = self.keeper(self.folder([authority()]))
        context = weakref.ref(keeper.current())
        del keeper
        gc.collect()
        self.assertIsNone(context())


class ChoiceTests(TrustTestCase):
    """
    The argument, the environment, the platform: which of them counts.
    """

    def client_certificate(self) -> Path:
        """
        Return one that only this test has, and so a context that only it has.
        """
        identity = client_identity()
        return self.folder({"x": identity.pem + identity.key_pem}) / "x"

    def system(self, *cas: trustme.CA) -> None:
        """
        Let the platform's store have these CAs: OpenSSL itself looks here for it.
        """
        file = self.folder({"system": b"".join(map(pem, cas))}) / "system"
        self.environment(SSL_CERT_FILE=str(file), SSL_CERT_DIR=str(self.folder({})))

    def test_cacerts_argument_is_accepted_as_str_or_path(self) -> None:
        """A str and a path are both fine, relative ones too."""
        folder = self.folder([authority()])
        for cacerts in (folder, str(folder), os.path.relpath(folder)):
            self.accepts(right(), cacerts=cacerts)

    def test_variable_names_folder_when_argument_is_none(self) -> None:
        """The variable names the folder where no argument does."""
        self.environment(**{CACERTS_VARIABLE: str(self.folder([authority()]))})
        self.accepts(right(), cacerts=None)
        self.refuses(unknown_ca(), cacerts=None)

    def test_variable_is_called_pop3connect_cacerts(self) -> None:
        """The name of the variable is part of the contract."""
        self.assertEqual(CACERTS_VARIABLE, "POP3CONNECT_CACERTS")

    def test_variable_is_read_for_each_connection(self) -> None:
        """The variable is read for each connection."""
        self.environment(**{CACERTS_VARIABLE: str(self.folder([authority()]))})
        self.accepts(right(), cacerts=None)
        self.environment(**{CACERTS_VARIABLE: str(self.folder([somebody()]))})
        self.refuses(right(), cacerts=None)

    def test_argument_beats_variable(self) -> None:
        self.environment(**{CACERTS_VARIABLE: str(self.folder([somebody()]))})
        folder = self.folder([authority()])
        self.accepts(right(), cacerts=folder)
        self.refuses(unknown_ca(), cacerts=folder)

    def test_invalid_variable_is_ignored_when_argument_is_given(self) -> None:
        """The variable is not looked at if there is an argument."""
        self.environment(**{CACERTS_VARIABLE: "/nowhere/at/all"})
        self.accepts(right(), cacerts=self.folder([authority()]))

    def test_invalid_variable_is_named_in_error(self) -> None:
        """The error names the variable, because it has to be changed."""
        self.environment(**{CACERTS_VARIABLE: "/nowhere/at/all"})
        error = self.rejects(UsageError)
        self.assertSays(error, CACERTS_VARIABLE, "/nowhere/at/all", "does not exist")

    def test_platform_store_is_used_without_argument_and_variable(self) -> None:
        """Without both, the platform's store counts."""
        self.system(somebody())
        own = self.client_certificate()
        self.accepts(unknown_ca(), cacerts=None, client_certificate=own)
        error = self.refuses(right(), cacerts=None, client_certificate=own)
        self.assertSays(
            error, "the CA certificates of this system", "folder with cacerts"
        )

    def test_empty_variable_counts_as_unset(self) -> None:
        """An empty variable is as good as none."""
        self.system(authority())
        self.environment(**{CACERTS_VARIABLE: ""})
        own = self.client_certificate()
        self.accepts(right(), cacerts=None, client_certificate=own)

    def test_platform_store_is_not_used_when_folder_is_given(self) -> None:
        """With a folder the platform's store does not count."""
        self.system(somebody())
        error = self.refuses(unknown_ca(), cacerts=self.folder([authority()]))
        self.assertNotIn("this system", str(error))

    def test_system_trust_adds_platform_store_to_folder(self) -> None:
        """With ``system_trust`` both count, and the refusal says so."""
        self.system(somebody())
        folder = self.folder([authority()])
        self.accepts(right(), cacerts=folder, system_trust=True)
        self.accepts(unknown_ca(), cacerts=folder, system_trust=True)
        third = leaf(HOST, by=authority("A Third CA"))
        error = self.refuses(third, cacerts=folder, system_trust=True)
        self.assertSays(error, folder, "the CA certificates of this system")

    def test_system_trust_adds_platform_store_to_folder_from_variable(self) -> None:
        self.system(somebody())
        self.environment(**{CACERTS_VARIABLE: str(self.folder([authority()]))})
        self.accepts(right(), cacerts=None, system_trust=True)
        self.accepts(unknown_ca(), cacerts=None, system_trust=True)

    def test_relative_folder_survives_change_of_working_directory(self) -> None:
        """A folder is the one it was when it was named, wherever we go."""
        folder = self.folder([authority()])
        trust = Trust.choose(os.path.relpath(folder), False, {})
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder({}))
        self.assertTrue(shake_hands(ClientContext(trust), ServerTLS()).proven)

    @skipIf(sys.platform in ("win32", "darwin"), "OpenSSL finds no store there")
    def test_certifi_is_not_used_when_platform_store_exists(self) -> None:
        """Where OpenSSL has a store, certifi's list does not come in."""
        self.system(authority())
        context = ClientContext(Trust.choose(None, False, {}))
        self.assertTrue(shake_hands(context, ServerTLS()).proven)
        with self.assertRaises(SSL.Error):
            shake_hands(context, ServerTLS(unknown_ca()))

    def test_str_of_trust_names_folder_and_platform_store(self) -> None:
        """Trust can be named in a sentence."""
        folder = self.folder({})
        self.assertEqual(
            str(Trust(Folder(folder), True)),
            f"the certificates in the folder {folder} and the CA certificates of "
            "this system",
        )


class OddCertificateTests(TrustTestCase):
    """
    Certificates that are readable and yet of no use as a CA.
    """

    @shows(
        "certificate 3.3",
        "a server's own certificate",
        "that server, if the name matches; nothing that it issued",
    )
    def test_server_certificate_in_folder_is_accepted(self) -> None:
        """The server's own certificate in the folder is enough."""
        shown: Shown = unknown_ca()
        self.accepts(shown, cacerts=self.folder({"server.pem": shown.pem}))

    @shows(
        "RFC 8314-05",
        "SHOULD",
        "No easy way around a bad certificate; exceptions are for one account, can be "
        "taken back, and do not count as verified.",
        "A ``cacerts`` folder for one account, with the server's certificate in it, "
        "or ``pins``. With ``verify=False`` alone, ``handle.tls.verified`` is false. "
        'One deviation: with ``pins`` it is true, and ``verified_by`` is ``"pin"``.',
    )
    @shows("certificate 3.3")
    def test_server_certificate_in_folder_does_not_vouch_for_others(self) -> None:
        """A server certificate in the folder vouches for itself alone."""
        pinned = unknown_ca()
        folder = self.folder({"server.pem": pinned.pem})
        error = self.refuses(right(), cacerts=folder)
        self.assertSays(error, "not trusted")
        self.assertIsInstance(error.certificate, x509.Certificate)

    @shows("certificate 3.3")
    def test_server_certificate_in_folder_is_refused_for_wrong_name(self) -> None:
        """A certificate that is trusted must have the right name too."""
        shown = leaf("imap.example.com", by=somebody())
        folder = self.folder({"server.pem": shown.pem})
        error = self.refuses(shown, cacerts=folder)
        self.assertSays(error, "is not for pop.example.com")
        self.assertIsInstance(error, VerificationError)

    def test_ca_with_serial_number_below_1_is_trusted_without_a_warning(self) -> None:
        """Some CAs have one (against RFC 5280 section 4.1.2.2); cryptography warns."""
        number = certificate_of(authority()).serial_number
        serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
        negative = bytes([serial[0] | 0x80]) + serial[1:]
        content = der(authority()).replace(serial, negative, 1)
        self.assertNotEqual(content, der(authority()))
        self.assertEqual(self.reads({"ca.der": content}), [])

    def test_damaged_certificate_does_not_prevent_use_of_others(self) -> None:
        """
        Whatever a damaged certificate looks like, it is not fatal to the rest.

        Some of these can still be parsed; OpenSSL has to cope with them too.
        """
        files = {"good.pem": pem(authority())}
        for position in range(len(FIXED_DER)):
            for change in (0x55, 0x80):
                damaged = bytearray(FIXED_DER)
                damaged[position] ^= change
                files[f"{position} {change}.der"] = bytes(damaged)
        context = ClientContext(trusting(self.folder(files)))
        self.assertTrue(shake_hands(context, ServerTLS()).proven)
