#!/usr/bin/env python3
"""Signs or verifies one request with the PyPI package http-message-signatures, an RFC 9421 library that is not ours.

    http_message_signatures.py sign    < {method, url, headers, seed, covers, created, nonce, keyid}
    http_message_signatures.py verify  < {method, url, headers, public_key, keyid, covers, lower_case_method}

`seed` and `public_key` are hexadecimal. `sign` prints the two headers as JSON; `verify` prints `ok`, or `fail` and why.
"""

import sys

# This file bears the package's name, and Python would find it here first.
sys.path[:] = [folder for folder in sys.path if not __file__.startswith(folder + "/")]

import datetime
import json
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    InvalidSignature,
    MappingKeyResolver,
    algorithms,
)


class LowerCaseMethod(HTTPSignatureComponentResolver):
    """The SDKs' one deviation from the RFC."""

    def get_method(self):
        return super().get_method().lower()


def sign(request):
    message = SimpleNamespace(method=request["method"], url=request["url"], headers=request["headers"])
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(request["seed"]))
    keys = MappingKeyResolver(public_keys={}, private_keys={request["keyid"]: key})
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=keys)
    signer.sign(
        message,
        key_id=request["keyid"],
        created=datetime.datetime.fromtimestamp(request["created"], datetime.timezone.utc),
        nonce=request["nonce"],
        covered_component_ids=request["covers"],
        use_existing_digest="content-digest" in request["covers"],
    )
    names = {"signature-input", "signature"}
    print(json.dumps({name.lower(): value for name, value in message.headers.items() if name.lower() in names}))


def verify(request):
    message = SimpleNamespace(method=request["method"], url=request["url"], headers=request["headers"])
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(request["public_key"]))
    keys = MappingKeyResolver(public_keys={request["keyid"]: key}, private_keys={})
    resolver = LowerCaseMethod if request["lower_case_method"] else HTTPSignatureComponentResolver
    verifier = HTTPMessageVerifier(
        signature_algorithm=algorithms.ED25519, key_resolver=keys, component_resolver_class=resolver
    )
    try:
        verifier.verify(message, max_age=None, require_components=request["covers"])
        print("ok")
    except InvalidSignature as fault:
        print("fail:", fault)


if __name__ == "__main__":
    {"sign": sign, "verify": verify}[sys.argv[1]](json.load(sys.stdin))
