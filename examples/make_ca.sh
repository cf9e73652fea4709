#!/bin/sh
# Makes a CA of your own, and a certificate for one server:
#
#     sh make_ca.sh pop.internal
#
# leaves cacerts/ca.pem, the CA's certificate, for connect(cacerts="cacerts"); server.pem
# and server.key for the server; and ca.key, which makes further certificates: lock it away.
set -eu
host=$1
umask 077
mkdir -p cacerts

# The CA, for ten years.  Without the key usage it would be refused (RFC 5280 section 4.2.1.3).
openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/CN=Our own CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out cacerts/ca.pem

# The server's key, and what the CA is to say of it.  The name has to be among the
# subjectAltName: the common name does not count (RFC 9525).
openssl req -newkey rsa:3072 -nodes -subj "/CN=$host" -keyout server.key -out server.csr
cat >server.ext <<END
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = DNS:$host
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
openssl x509 -req -in server.csr -days 397 -sha256 -extfile server.ext \
    -CA cacerts/ca.pem -CAkey ca.key -CAcreateserial -out server.pem
rm server.csr server.ext
