"""
Fuzzing what a server sends: status lines, listings, message bodies, SASL challenges.

`targets` has what is checked, without any fuzzer; ``python -m fuzz`` runs atheris on
it; the tests of the suite replay ``corpus``.
"""
