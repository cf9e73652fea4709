"""The POP3 protocol as pure Python: bytes in, values out.  No Twisted, no OpenSSL."""

__all__: list[str] = []
