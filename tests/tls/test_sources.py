"""
Sources of trusted certificates beside the folder: a file, bytes, Twisted's trust roots.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from OpenSSL import SSL
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import LogLevel, capturedLogs, formatEvent

from pop3connect import Connector, TLSError, UsageError
from pop3connect.tls.trust import CACERTS_VARIABLE

from ..support.certificates import (
    HOST,
    ServerTLS,
    TLSTestCase,
    authority,
    behind_intermediate,
    certificate_of,
    expired,
    intermediate,
    key,
    leaf,
    right,
    self_signed,
    unknown_ca,
    wrong_host,
)
from ..support.memory import Latest
from ..support.shows import shows

BAD_PEM = (
    b"-----BEGIN CERTIFICATE-----\n"
    b"MIIBszCCAVmgAwIBAgIUNoCertificateAtAll\n"
    b"-----END CERTIFICATE-----\n"
)


def pem(ca: trustme.CA) -> bytes:
    return ca.cert_pem.bytes()


def contents() -> dict[str, bytes]:
    """
    Return the CA's certificate in each form.
    """
    ca = certificate_of(authority())
    return {
        "PEM": pem(authority()),
        "two in PEM": pem(authority("A Third CA")) + pem(authority()),
        "DER": ca.public_bytes(Encoding.DER),
        "PKCS #7 in PEM": pkcs7.serialize_certificates([ca], Encoding.PEM),
        "PKCS #7 in DER": pkcs7.serialize_certificates([ca], Encoding.DER),
    }


class SourceTestCase(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.environ.update, {CACERTS_VARIABLE: ""})
        os.environ[CACERTS_VARIABLE] = ""

    def file(self, content: bytes, name: str = "ca.pem") -> Path:
        return self.folder({name: content}) / name

    def warnings(self, **options: Any) -> list[str]:
        """
        Return what the log has to say about a session that is accepted.
        """
        with capturedLogs() as events:
            self.accepts(right(), **options)
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        return [text for event in warnings if "cacerts" in (text := formatEvent(event))]


class FileTests(SourceTestCase):
    @shows("feature 1.3")
    @shows(
        "certificate 3.15",
        "a file in place of the folder",
        "the certificates in it",
    )
    def test_file_in_each_format_is_read(self) -> None:
        for what, content in contents().items():
            file = self.file(content)
            for path in (file, str(file), os.path.relpath(file)):
                self.accepts(right(), cacerts=path)
            error = self.refuses(unknown_ca(), cacerts=file)
            self.assertSays(error, f"the certificates in the file {file}")
            self.assertSays(error, "add the certificate of OU=Somebody Else's CA")
            self.assertSays(error, f"to the file {file}")
            self.assertNotIn("folder", str(error), what)

    def test_file_beside_it_does_not_count(self) -> None:
        folder = self.folder({"a": pem(authority()), "b": unknown_ca().pem})
        self.refuses(unknown_ca(), cacerts=folder / "a")

    def test_hidden_file_is_read_where_it_is_named(self) -> None:
        self.accepts(right(), cacerts=self.file(pem(authority()), ".ca.pem"))

    def test_name_is_still_checked(self) -> None:
        for shown in (wrong_host(), expired()):
            self.refuses(shown, cacerts=self.file(pem(authority())))

    def test_changed_file_counts_at_the_next_connection(self) -> None:
        """A session with the server is not resumed either: trust was withdrawn."""
        file = self.file(pem(authority()))
        self.accepts(right(), cacerts=file)
        new = file.with_name("new")
        new.write_bytes(pem(authority("A Third CA")))
        os.replace(new, file)
        self.refuses(right(), cacerts=file)

    def test_unusable_part_of_a_file_is_named_in_log_and_refusal(self) -> None:
        file = self.file(pem(authority()) + BAD_PEM)
        (warning,) = self.warnings(cacerts=file)
        self.assertIn(f"{file} has 1 certificate(s) that are invalid", warning)
        self.assertSays(self.refuses(unknown_ca(), cacerts=file), "are invalid")

    @shows("certificate 3.15")
    def test_file_without_a_certificate_is_rejected_with_remedy(self) -> None:
        for content in (b"", b"junk", BAD_PEM, right().key_pem):
            file = self.file(content)
            error = self.rejects(TLSError, cacerts=file)
            self.assertSays(error, f"the cacerts file {file} holds no certificate")
            self.assertSays(error, "name a file that has the CA's certificate")
            self.assertEqual(error.server, f"{HOST}:995")

    def test_file_that_disappears_is_an_error_at_the_next_connection(self) -> None:
        file = self.file(pem(authority()))
        connector = Connector(
            HOST, secure=1, cacerts=file, reactor=self.clock, endpoint=self.endpoint
        )
        file.unlink()
        error = self.failureResultOf(connector.connect("ada", "x"), TLSError).value
        self.assertSays(error, f"the cacerts file {file} cannot be read", "No such")

    def test_pipe_or_device_is_not_opened(self) -> None:
        pipe = self.folder({}) / "pipe"
        os.mkfifo(pipe)
        for path in (pipe, Path("/dev/zero")):
            error = self.rejects(TLSError, cacerts=path)
            self.assertSays(error, path, "not a regular file")

    def test_system_trust_is_added_to_a_file(self) -> None:
        third = self.file(pem(authority("A Third CA")))
        error = self.refuses(right(), cacerts=third, system_trust=True)
        self.assertSays(error, third, "and the CA certificates of this system")

    def test_variable_may_name_a_file(self) -> None:
        os.environ[CACERTS_VARIABLE] = str(self.file(pem(authority())))
        self.accepts(right(), cacerts=None)
        self.refuses(unknown_ca(), cacerts=None)


class BytesTests(SourceTestCase):
    @shows(
        "certificate 3.16",
        "the contents of a file, as bytes",
        "the certificates in them",
    )
    def test_bytes_in_each_format_are_read(self) -> None:
        for content in contents().values():
            self.accepts(right(), cacerts=content)
            error = self.refuses(unknown_ca(), cacerts=content)
            self.assertSays(error, "the certificates given as bytes")
            self.assertSays(error, "to the bytes in cacerts")

    def test_unusable_part_of_the_bytes_is_named_in_the_log(self) -> None:
        content = pem(authority()) + BAD_PEM
        (warning,) = self.warnings(cacerts=content)
        self.assertIn(f"a value of {len(content)} bytes has 1", warning)

    @shows("certificate 3.16")
    def test_bytes_without_a_certificate_are_rejected_and_not_shown(self) -> None:
        for content in (b"", b"folder", BAD_PEM, right().key_pem):
            error = self.rejects(UsageError, cacerts=content)
            self.assertSays(error, f"cacerts: a value of {len(content)} bytes holds no")
            self.assertSays(error, "path of a folder or file as a str")
            self.assertNotIn("-----", str(error))

    def test_text_of_a_certificate_is_rejected_with_remedy_and_not_shown(self) -> None:
        """A str is a path, and a path of 600 characters would say nothing."""
        text = (right().key_pem + pem(authority())).decode()
        error = self.rejects(UsageError, cacerts=text)
        self.assertSays(error, "cacerts is the text of a certificate", "text.encode()")
        self.assertNotIn("-----", str(error))


class TrustRootTests(SourceTestCase):
    def root(self, *cas: trustme.CA) -> Any:
        return trustRootFromCertificates([Certificate.loadPEM(pem(ca)) for ca in cas])

    @shows("feature 1.3")
    @shows(
        "certificate 3.17",
        "a trust root of Twisted",
        "its certificates, by the same rules",
    )
    def test_trust_root_of_certificates_is_used(self) -> None:
        root = self.root(authority("A Third CA"), authority())
        handle = self.accepts(right(), cacerts=root)
        assert handle.tls is not None
        self.assertEqual(handle.tls.verified_by, "chain")
        self.assertEqual(handle.tls.version, "TLSv1.3")
        error = self.refuses(unknown_ca(), cacerts=root)
        self.assertSays(error, "the certificates of the trust root given")
        self.assertSays(error, "to the trust root in cacerts")

    @shows("certificate 3.17")
    def test_name_and_dates_are_still_checked(self) -> None:
        """Twisted's own check of names plays no part: ours is made."""
        root = self.root(authority())
        for shown in (wrong_host(), expired(), self_signed()):
            self.refuses(shown, cacerts=root)

    def test_weak_server_is_refused_as_with_a_folder(self) -> None:
        """What Twisted sets up is replaced: versions, ciphers, strictness."""
        root = self.root(authority())
        self.refuses(leaf(HOST, weak=True), cacerts=root)
        server = ServerTLS(leaf(HOST, rsa_key=True), ciphers=b"AES128-SHA", newest=771)
        self.error(self.open(server, cacerts=root), TLSError)

    @shows("certificate 3.17")
    def test_intermediate_in_a_trust_root_is_trusted_without_its_root(self) -> None:
        shown = behind_intermediate(sent=False)
        self.accepts(shown, cacerts=self.root(intermediate()))

    def test_single_certificate_is_a_trust_root(self) -> None:
        self.accepts(right(), cacerts=Certificate.loadPEM(pem(authority())))
        own = self_signed()
        both = (own.pem + own.key_pem).decode()
        self.accepts(own, cacerts=PrivateCertificate.loadPEM(both))

    def test_trust_root_without_certificates_trusts_nobody(self) -> None:
        self.refuses(right(), cacerts=self.root())

    def test_platform_trust_of_twisted_is_used(self) -> None:
        folder = self.folder([authority()])
        for name, value in (
            ("SSL_CERT_FILE", str(folder / "ca 0.pem")),
            ("SSL_CERT_DIR", str(folder)),
        ):
            self.addCleanup(os.environ.pop, name, None)
            os.environ[name] = value
        self.accepts(right(), cacerts=platformTrust())

    def test_session_with_a_trust_root_is_resumed(self) -> None:
        """Twisted turns the cache of its contexts off; ours is another."""
        root = self.root(authority())
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            server = ServerTLS(newest=newest)
            endpoint = Latest(self)
            ended = self.log_in(server, cacerts=root, endpoint=endpoint).disconnect()
            self.server.expect(b"QUIT", b"+OK\r\n")
            self.server.lose()
            self.successResultOf(ended)
            # If it were not resumed, this would be refused.
            server.show(expired())
            self.accepts(server, cacerts=root, endpoint=endpoint)

    def test_two_sets_of_options_with_one_trust_root_stay_apart(self) -> None:
        """A context of Twisted is changed here, so that each needs its own."""
        root = self.root(authority())
        other = f"sha256//{'A' * 43}="
        self.accepts(right(), cacerts=root)
        self.refuses(right(), cacerts=root, pins=[other])
        self.accepts(ServerTLS(), cacerts=root)

    def test_other_object_is_rejected_with_what_can_be_given(self) -> None:
        for bad in (7, True, [pem(authority())], {"a": 1}, bytearray(b"x"), key()):
            error = self.rejects(UsageError, cacerts=bad)
            self.assertSays(error, "cacerts must be the path of a folder or file")
            self.assertSays(error, "trustRootFromCertificates", type(bad).__name__)
