"""
Tests of pop3connect.  Importing this package turns warnings into errors.

Trial collects the warnings of a test and issues them again when it has ended, by the
filters set here: a warning that no filter names is an error of that test.
"""

import warnings

warnings.simplefilter("error")


def _allow(category: type[Warning], message: str, *files: str) -> None:
    """Let a warning pass, from anywhere or in these files alone."""
    # Trial gives the path of a file and not the name of the module; "a/b" ends both.
    ends = "|".join(file.replace("/", r"[/\\.]") for file in files)
    module = rf"(?:.*[/\\.])?(?:{ends})\Z" if files else ""
    warnings.filterwarnings("ignore", message, category, module)


# cryptography: some tests show a certificate with a serial number below 1.
_allow(
    UserWarning, "Parsed a (negative serial number|serial number which wasn't positive)"
)
# Twisted: CertificateOptions, in the servers of tests, hands over pyOpenSSL's own
# types.  Recent releases of pyOpenSSL name their own file as the caller, so that a call
# of ours cannot be told apart here: `TLSTestCase` allows no warning at all.
_allow(
    DeprecationWarning,
    "Passing pyOpenSSL (X509|PKey) objects is deprecated",
    "OpenSSL/SSL",
    "twisted/internet/_sslverify",
)
# service-identity 23.1: reads names in certificates by pyOpenSSL for Twisted's own
# check of a server, which an example uses.
_allow(
    DeprecationWarning,
    "This API is deprecated and will be removed in a future version of pyOpenSSL",
    "service_identity/pyopenssl",
)
# Twisted: its web client is given a transport in memory.
_allow(
    DeprecationWarning,
    "Using readBody with a transport that does not",
    "tests/test_examples",
)
# Twisted: its POP3 server does not close the files of the Maildir that it sends.
_allow(
    ResourceWarning, r"unclosed file <_io\.BufferedReader name=b?'[^']*/mail/user\d+/"
)
# Twisted 23.10: leaves the socket open when the port is taken.
_allow(ResourceWarning, r"unclosed <socket\.socket .*laddr=\('0\.0\.0\.0', 0\)")
