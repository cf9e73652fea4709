"""
Tests of pop3connect.  Importing this package turns warnings into errors.

Trial collects the warnings of a test and issues them again when it has ended, by the
filters set here: a warning that no filter names is an error of that test.
"""

import warnings

warnings.simplefilter("error")

# cryptography: some tests show a certificate with a serial number below 1.
warnings.filterwarnings(
    "ignore", r"Parsed a serial number which wasn't positive", UserWarning
)
# Twisted: its CertificateOptions, in the servers of tests, hand pyOpenSSL's own types
# over.  pyOpenSSL names its own file as the caller, so ours cannot be told apart here;
# tests.tls.test_context checks that pop3connect causes no warning.
warnings.filterwarnings(
    "ignore",
    r"Passing pyOpenSSL (X509|PKey) objects is deprecated",
    DeprecationWarning,
)
# Twisted: an example shows how to port a program from this module.
warnings.filterwarnings(
    "ignore", r"twisted\.mail\.pop3client was deprecated", DeprecationWarning
)
# Twisted: its web client is given a transport in memory.
warnings.filterwarnings(
    "ignore", r"Using readBody with a transport that does not", DeprecationWarning
)
# Twisted: its POP3 server does not close the files of the Maildir that it sends.
warnings.filterwarnings(
    "ignore",
    r"unclosed file <_io\.BufferedReader name=b?'[^']*/mail/user\d+/",
    ResourceWarning,
)
# Python: a simulated crash or full disk leaves the files open that were being written.
warnings.filterwarnings(
    "ignore", r"unclosed file <_io\.FileIO name=\d+ mode='wb'", ResourceWarning
)
