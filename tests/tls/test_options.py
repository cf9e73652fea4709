"""
`TLSOptions`: versions, ciphers, the password of the client's key, revocation lists.
"""

from __future__ import annotations

import datetime
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet.ssl import PrivateCertificate, TLSVersion

from pop3connect import TLSError, TLSOptions, UsageError
from pop3connect.tls.context import ClientContext

from ..support.certificates import (
    HOST,
    ServerTLS,
    Shown,
    TLSTestCase,
    authority,
    behind_intermediate,
    certificate_of,
    client_identity,
    intermediate,
    key,
    leaf,
    right,
    unknown_ca,
)
from ..support.frames import leaks
from ..support.shows import shows

PASSWORD = "correct horse"


def shown(value: object) -> str:
    """
    Return the repr of a local variable, as a traceback shows it.
    """
    try:
        return repr(value)
    except AttributeError:
        # Of an object that was not complete when its making failed.
        return ""


class VersionTests(TLSTestCase):
    def test_server_without_tls_1_3_is_refused_where_it_is_the_minimum(self) -> None:
        for version in ("TLSv1.3", TLSVersion.TLSv1_3):
            server = ServerTLS(newest=SSL.TLS1_2_VERSION)
            opening = self.open(server, tls=TLSOptions(minimum_version=version))
            error = self.error(opening, TLSError)
            self.assertSays(error, "does not offer the version that is the oldest")
            self.assertSays(error, "change minimum_version")
            self.assertNotIn("TLS 1.1", str(error))

    def test_server_with_tls_1_3_is_accepted_where_it_is_the_minimum(self) -> None:
        options = TLSOptions(minimum_version="TLSv1.3")
        handle = self.accepts(right(), tls=options)
        assert handle.tls is not None
        self.assertEqual(handle.tls.version, "TLSv1.3")

    def test_version_that_is_too_old_or_unknown_is_refused(self) -> None:
        for bad in ("TLSv1.1", TLSVersion.TLSv1_1, "1.2", "", None, 3):
            with self.assertRaises(UsageError) as caught:
                TLSOptions(minimum_version=bad)  # type: ignore[arg-type]
            error = caught.exception
            self.assertSays(error, "minimum_version must be 'TLSv1.2' or 'TLSv1.3'")
            self.assertSays(error, repr(bad)[:30], "RFC 8997")


class CipherTests(TLSTestCase):
    def test_chosen_cipher_suite_is_used(self) -> None:
        name = "ECDHE-ECDSA-AES256-GCM-SHA384"
        server = ServerTLS(newest=SSL.TLS1_2_VERSION)
        handle = self.accepts(server, tls=TLSOptions(ciphers=name))
        assert handle.tls is not None
        self.assertEqual(handle.tls.cipher, name)

    def test_server_with_other_suites_only_is_refused_with_remedy(self) -> None:
        server = ServerTLS(
            newest=SSL.TLS1_2_VERSION, ciphers=b"ECDHE-ECDSA-AES128-GCM-SHA256"
        )
        options = TLSOptions(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
        error = self.error(self.open(server, tls=options), TLSError)
        self.assertSays(error, "none of the cipher suites that were chosen here")
        self.assertSays(error, "change ciphers")

    def test_lower_security_level_accepts_the_weak_key_of_an_old_server(self) -> None:
        server = ServerTLS(leaf(HOST, weak=True))
        self.refuses(server)
        self.accepts(server, tls=TLSOptions(ciphers="DEFAULT@SECLEVEL=0"))

    def test_suites_without_certificate_or_encryption_are_never_used(self) -> None:
        for ciphers in ("ALL:eNULL:@SECLEVEL=0", "aNULL:ALL:@SECLEVEL=0"):
            for theirs in (b"aNULL", b"eNULL"):
                server = ServerTLS(newest=SSL.TLS1_2_VERSION, ciphers=theirs)
                for verify in (True, False):
                    opening = self.open(
                        server, verify=verify, tls=TLSOptions(ciphers=ciphers)
                    )
                    self.error(opening, TLSError)

    def test_list_without_usable_suite_is_rejected_before_connecting(self) -> None:
        for bad in ("NO-SUCH-SUITE", "aNULL", "eNULL:!ALL", "!!!"):
            error = self.rejects(
                UsageError,
                cacerts=self.folder([authority()]),
                tls=TLSOptions(ciphers=bad),
            )
            self.assertSays(error, f"ciphers: {bad!r}", "openssl ciphers -v")

    def test_value_that_is_not_a_list_of_suites_is_refused(self) -> None:
        for bad in ("", "é", "A\nB", b"HIGH", 7, ["HIGH"]):
            with self.assertRaises(UsageError) as caught:
                TLSOptions(ciphers=bad)  # type: ignore[arg-type]
            self.assertSays(caught.exception, "ciphers must be a list", "OpenSSL")


class ClientKeyTests(TLSTestCase):
    """
    The password of an encrypted key.
    """

    def setUp(self) -> None:
        super().setUp()
        self.ours = client_identity("ada")

    def file(self, form: PrivateFormat = PrivateFormat.PKCS8) -> Path:
        encrypted = key().private_bytes(
            Encoding.PEM, form, BestAvailableEncryption(PASSWORD.encode())
        )
        folder = self.folder({"ours.pem": self.ours.pem + encrypted})
        return folder / "ours.pem"

    def test_encrypted_key_is_used_with_its_password(self) -> None:
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            for password in (PASSWORD, PASSWORD.encode()):
                server = ServerTLS(client_ca=authority())
                self.log_in(
                    server,
                    client_certificate=self.file(form),
                    tls=TLSOptions(client_key_password=password),
                )
                self.assertEqual(server.client_chain[:1], [self.ours.certificate])
                self.server.lose()

    def unusable(self, certificate: Any, password: str | None) -> UsageError:
        return self.rejects(
            UsageError,
            client_certificate=certificate,
            cacerts=self.folder([authority()]),
            tls=TLSOptions(client_key_password=password),
        )

    def test_missing_password_is_asked_for_with_the_file(self) -> None:
        file = self.file()
        error = self.unusable(file, None)
        self.assertSays(error, "client_key_password is missing", file, "encrypted")

    def test_wrong_password_is_named_without_being_shown(self) -> None:
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            file = self.file(form)
            error = self.unusable(file, "wrong horse")
            self.assertSays(error, "client_key_password does not decrypt", file)
            self.assertNotIn("wrong horse", str(error))

    def test_password_for_a_key_that_is_not_encrypted_is_refused(self) -> None:
        file = self.folder({"x": self.ours.pem + self.ours.key_pem}) / "x"
        error = self.unusable(file, PASSWORD)
        self.assertSays(error, "client_key_password was given", file, "leave it out")

    def test_no_frame_of_an_error_shows_the_key(self) -> None:
        """Not even its beginning, which the repr of a match has in it."""
        lines = self.ours.key_pem.splitlines(keepends=True)
        for held, password in (
            (self.ours.key_pem, PASSWORD),
            (b"".join(lines[:2] + lines[3:]), None),
        ):
            file = self.folder({"x": self.ours.pem + held}) / "x"
            with self.assertRaises(UsageError) as caught:
                ClientContext(None, file, TLSOptions(client_key_password=password))
            start = lines[1][:8].decode()
            self.assertEqual(leaks(caught.exception, [start, PASSWORD]), [])

    def test_password_without_a_file_for_it_is_refused(self) -> None:
        pem = (self.ours.pem + self.ours.key_pem).decode()
        for certificate in (None, PrivateCertificate.loadPEM(pem)):
            error = self.unusable(certificate, PASSWORD)
            self.assertSays(error, "client_key_password", "client_certificate names")

    def test_password_of_another_type_or_empty_is_refused(self) -> None:
        for bad, words in (
            (7, "not int"),
            ("", "empty"),
            (b"\xff", "not UTF-8"),
            ("s\udc80", "half a character"),
        ):
            with self.assertRaises(UsageError) as caught:
                TLSOptions(client_key_password=bad)  # type: ignore[arg-type]
            self.assertSays(caught.exception, "client_key_password", words)

    def test_password_is_in_no_repr_and_no_traceback(self) -> None:
        self.assertNotIn(PASSWORD, repr(TLSOptions(client_key_password=PASSWORD)))
        failures = []
        for password in (PASSWORD, PASSWORD.encode()):
            try:
                TLSOptions(client_key_password=password, minimum_version="SSL")
            except UsageError as error:
                failures.append(error)
        other = self.folder({"x": self.ours.pem + self.ours.key_pem}) / "x"
        for file in (self.file(), other):
            failures.append(self.unusable(file, PASSWORD + "!"))
        self.assertEqual(len(failures), 4)
        here = sys._getframe().f_code
        for failure in failures:
            error: BaseException | None = failure
            while error is not None:
                for frame, _ in traceback.walk_tb(error.__traceback__):
                    for value in frame.f_locals.values():
                        if frame.f_code is not here:
                            self.assertNotIn(PASSWORD, shown(value))
                error = error.__cause__ or error.__context__


_NOW = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)


def revocation_list(
    *revoked: Shown,
    by: trustme.CA | None = None,
    days: int = 7,
    encoding: Encoding = Encoding.PEM,
) -> bytes:
    """
    Return the list of a CA.

    :param days: until it expires.
    """
    by = by or authority()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate_of(by).subject)
        .last_update(_NOW - datetime.timedelta(days=30))
        .next_update(_NOW + datetime.timedelta(days=days))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                certificate_of(by)
                .extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
                .value
            ),
            critical=False,
        )
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for shown in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(shown.certificate.serial_number)
            .revocation_date(_NOW - datetime.timedelta(days=31))
            .build()
        )
    own: Any = load_pem_private_key(by.private_key_pem.bytes(), None)
    return builder.sign(own, hashes.SHA256()).public_bytes(encoding)


class RevocationTests(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.trusted = self.folder([authority()])
        self.crl = self.folder({}) / "revoked.pem"
        self.options = {
            "cacerts": self.trusted,
            "tls": TLSOptions(crl=self.crl),
        }

    def write(self, *lists: bytes) -> None:
        # Replaced as a whole, so that a change is noticed.
        new = self.crl.with_suffix(".new")
        new.write_bytes(b"".join(lists))
        os.replace(new, self.crl)

    @shows("certificate 5.1", "is not on the list of its issuer", "yes")
    def test_certificate_that_is_not_on_the_list_is_accepted(self) -> None:
        for encoding in (Encoding.PEM, Encoding.DER):
            self.write(revocation_list(leaf("other.example.com"), encoding=encoding))
            self.accepts(right(), **self.options)

    @shows("certificate 5.2", "is on it", 'no: "it has been revoked"')
    def test_revoked_certificate_is_refused(self) -> None:
        for encoding in (Encoding.PEM, Encoding.DER):
            self.write(revocation_list(right(), encoding=encoding))
            error = self.refuses(right(), **self.options)
            self.assertSays(error, "has been revoked", "operator")

    @shows("certificate 5.2")
    def test_list_that_was_changed_counts_at_the_next_connection(self) -> None:
        """Also for a server whose TLS session could be resumed."""
        self.write(revocation_list())
        server = ServerTLS()
        self.log_in(server, **self.options)
        self.server.lose()
        self.write(revocation_list(right()))
        self.refuses(server, **self.options)

    @shows(
        "certificate 5.3",
        "has an issuer without a list, or with one that has expired or is forged",
        'no: "may have been revoked"',
    )
    def test_missing_list_of_the_issuer_is_a_refusal_with_remedy(self) -> None:
        """Whether the certificate was revoked cannot be known, so it fails closed."""
        self.write(revocation_list(by=authority("Somebody Else's CA")))
        error = self.refuses(right(), **self.options)
        self.assertSays(error, "may have been revoked", self.crl)
        self.assertSays(error, "no list of its issuer", "Our CA", "into that file")

    @shows("certificate 5.3")
    def test_expired_list_is_a_refusal_with_remedy(self) -> None:
        self.write(revocation_list(days=-1))
        error = self.refuses(right(), **self.options)
        self.assertSays(error, "list of its issuer that has expired", self.crl)

    @shows("certificate 5.3")
    def test_list_signed_by_another_key_is_a_refusal(self) -> None:
        good = revocation_list(encoding=Encoding.DER)
        self.write(good[:-4] + bytes(octet ^ 1 for octet in good[-4:]))
        error = self.refuses(right(), **self.options)
        self.assertSays(error, "signature is wrong")

    @shows(
        "certificate 5.4",
        "of a CA in the chain is on the list of that CA's issuer",
        "no",
    )
    @shows(
        "certificate 5.5",
        "of a CA in the chain has an issuer without a list",
        "yes",
    )
    def test_intermediate_is_checked_only_if_its_issuer_has_a_list(self) -> None:
        shown = behind_intermediate(sent=True)
        self.write(revocation_list(by=intermediate()))
        self.accepts(shown, **self.options)
        above = Shown(certificate_of(intermediate()))
        self.write(revocation_list(by=intermediate()), revocation_list(above))
        error = self.refuses(shown, **self.options)
        self.assertSays(error, "has been revoked", "Our Intermediate")

    @shows("certificate 5.5")
    def test_intermediate_in_the_folder_needs_no_list_of_the_root(self) -> None:
        shown = behind_intermediate(sent=False)
        self.write(revocation_list(by=intermediate()))
        self.options["cacerts"] = self.folder([intermediate()])
        self.accepts(shown, **self.options)

    def test_untrusted_certificate_stays_untrusted(self) -> None:
        ca = authority("Somebody Else's CA")
        self.write(revocation_list(), revocation_list(by=ca))
        self.refuses(unknown_ca(), **self.options)

    def test_file_without_a_list_or_with_a_damaged_one_is_rejected(self) -> None:
        good = revocation_list()
        for content in (
            b"",
            b"junk",
            authority().cert_pem.bytes(),
            good + b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        ):
            self.write(content)
            error = self.rejects(TLSError, **self.options)
            self.assertSays(error, f"the CRL file {self.crl}", "from the CA again")

    def test_file_that_cannot_be_read_is_rejected(self) -> None:
        error = self.rejects(TLSError, **self.options)
        self.assertSays(error, f"the CRL file {self.crl} cannot be read", "No such")
        self.crl.mkdir()
        error = self.rejects(TLSError, **self.options)
        self.assertSays(error, f"the CRL file {self.crl} cannot be read", "folder")

    def test_list_without_verification_is_refused(self) -> None:
        error = self.rejects(UsageError, verify=False, tls=TLSOptions(crl=self.crl))
        self.assertSays(error, "crl is of no use", "leave out verify=False")

    def test_value_that_is_not_a_path_is_refused(self) -> None:
        for bad in ("", 7, b"file", ["file"]):
            with self.assertRaises(UsageError) as caught:
                TLSOptions(crl=bad)  # type: ignore[arg-type]
            self.assertSays(caught.exception, "crl: ", "not the path of a file")


class ArgumentTests(TLSTestCase):
    def test_tls_of_another_type_is_refused(self) -> None:
        for bad in ("TLSv1.3", 1, {"ciphers": "HIGH"}, TLSOptions):
            error = self.rejects(UsageError, tls=bad)
            self.assertSays(error, "tls must be a TLSOptions", type(bad).__name__)

    def test_tls_options_without_tls_are_refused(self) -> None:
        error = self.rejects(UsageError, tls=TLSOptions(), secure=0)
        self.assertSays(error, "tls is of no use without TLS", "set secure=1")

    def test_equal_options_are_one_value(self) -> None:
        """So that connect() finds the connector that it has made before."""
        one, two = (TLSOptions(crl="x", client_key_password=PASSWORD) for _ in range(2))
        self.assertEqual(one, two)
        self.assertEqual(hash(one), hash(two))
        self.assertNotEqual(one, TLSOptions(crl="x"))
