#!/usr/bin/env python3
"""Makes the vectors in this folder: an implementation of the profile apart from ours, so that neither judges itself.

Needs the package `cryptography`. Everything follows from fixed seeds, so a second run writes the same files. All requests are judged at `NOW`; a body is `BODY`:

    python3 tests/vectors/make.py
"""

import base64
import hashlib
import json
import pathlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HERE = pathlib.Path(__file__).parent
NOW = 1_700_000_000
BODY = b'{"model":"m"}'
ISSUED = "2023-11-01T00:00:00Z"
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group that Ed25519 signs in
P = 2**255 - 19


def b64(data):
    return base64.b64encode(data).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Agent:
    def __init__(self, namespace, seed):
        self.namespace, self.seed = namespace, hashlib.sha256(seed).digest()
        self.key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_text = "ed25519:" + b64(self.public)
        self.did = "did:sigilum:" + namespace
        self.key_id = f"{self.did}#ed25519-{hashlib.sha256(self.public).hexdigest()[:16]}"

    def certificate(self, signer=None, **changes):
        """Fields changed before the proof is made; `after` changes them when it stands."""
        after = changes.pop("after", {})
        fields = {
            "version": 1, "namespace": self.namespace, "did": self.did, "keyId": self.key_id,
            "publicKey": self.public_text, "issuedAt": ISSUED, "expiresAt": None,
        }
        fields.update(changes)
        lines = [
            "sigilum-certificate-v1", f"namespace:{fields['namespace']}", f"did:{fields['did']}",
            f"key-id:{fields['keyId']}", f"public-key:{fields['publicKey']}", f"issued-at:{fields['issuedAt']}",
            f"expires-at:{fields['expiresAt'] or ''}",
        ]
        proof = (signer or self).key.sign("\n".join(lines).encode())
        fields["proof"] = {"alg": "ed25519", "sig": b64url(proof)}
        for path, value in after.items():
            place, names = fields, path.split(".")
            for name in names[:-1]:
                place = place[name]
            if value is ...:
                del place[names[-1]]
            else:
                place[names[-1]] = value
        return fields

    def sign_with_r_of_small_order(self, message):
        """R is the identity and S = k·a: the equation S·B = R + k·A holds, and only a strict verifier refuses it."""
        digest = hashlib.sha512(self.seed).digest()
        scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
        identity = bytes([1]) + bytes(31)
        k = int.from_bytes(hashlib.sha512(identity + self.public + message).digest(), "little")
        return identity + (k * scalar % ORDER).to_bytes(32, "little")

    def record(self):
        return {
            "version": 1, "namespace": self.namespace, "did": self.did, "keyId": self.key_id,
            "publicKey": self.public_text, "privateKey": b64(self.seed), "certificate": self.certificate(),
            "createdAt": ISSUED, "updatedAt": ISSUED,
        }


ALICE = Agent("alice", b"sigilum vectors: alice")
MALLORY = Agent("mallory", b"sigilum vectors: mallory")
SAME_NAME = Agent("alice", b"sigilum vectors: another alice")
ALICE_PROD = Agent("alice-prod", b"sigilum vectors: alice")


def header_of(certificate):
    return b64url(json.dumps(certificate, separators=(",", ":")).encode())


def request(name, expect, *, method="POST", target="https://gateway.example/proxy/openai/v1/chat?stream=true",
            body=BODY, headers=None, extra=None, covered=None, add=(), drop=(), base_method=None,
            params=None, param_order=None, agent=ALICE, certificate=None, label="sig1", input_form=None, input_value=None,
            signature=None, signature_form=None, after=None, method_after=None, target_after=None, has_body=None):
    """One vector. Everything is as it should be but for what the arguments change.

    `headers` and `extra` are set before signing, `after` when the signature stands (`None` takes one away).
    """
    lines = {}
    if body is not None:
        lines["content-digest"] = f"sha-256=:{b64(hashlib.sha256(body).digest())}:"
    lines.update({
        "sigilum-namespace": agent.namespace, "sigilum-subject": "user-42", "sigilum-agent-key": agent.public_text,
        "sigilum-agent-cert": header_of(certificate) if certificate is not None else header_of(agent.certificate()),
    })
    lines.update(headers or {})
    lines = {name: value for name, value in lines.items() if value is not None}
    profile = ["content-digest", "sigilum-namespace", "sigilum-subject", "sigilum-agent-id", "sigilum-agent-key",
               "sigilum-agent-cert"]
    if covered is None:
        covered = ["@method", "@target-uri"] + [name for name in profile if name in lines]
        covered = [name for name in covered if name not in drop] + list(add)
    lines.update(extra or {})

    url = target.split("#")[0]
    scheme, rest = url.split("://")
    authority, _, path_and_query = rest.partition("/")
    path, mark, query = path_and_query.partition("?")
    derived = {
        "@method": base_method or method.lower(), "@target-uri": url, "@authority": authority.lower(),
        "@scheme": scheme, "@path": "/" + path, "@query": "?" + query, "@request-target": "/" + path + mark + query,
    }
    resolved = {
        '"@query-param";name="stream"': "true",
        '"@query-param";name="a%20b"': "x%2By",
        '"x-twice";bs': f":{b64(b'one')}:, :{b64(b'two')}:",
        '"x-dictionary";key="b"': "2;q=1",
        '"x-dictionary";key="c"': '("in" list);z',
    }
    base = ""
    for component in covered:
        quoted = component if component.startswith('"') else f'"{component}"'
        if quoted in resolved:
            value = resolved[quoted]
        elif component in derived:
            value = derived[component]
        else:
            value = lines.get(component.split('"')[1] if component.startswith('"') else component, "")
            value = ", ".join(v.strip(" \t") for v in ([value] if isinstance(value, str) else value))
        base += f"{quoted}: {value}\n"
    fields = {"created": str(NOW), "keyid": f'"{agent.key_id}"', "alg": '"ed25519"',
              "nonce": '"123e4567-e89b-12d3-a456-426614174000"'}
    fields.update(params or {})
    fields = {key: fields[key] for key in param_order or fields}
    inner = " ".join(c if c.startswith('"') else f'"{c}"' for c in covered)
    value = f"({inner})" + "".join(f";{key}={v}" for key, v in fields.items() if v is not None)
    base += f'"@signature-params": {value}'
    made = agent.key.sign(base.encode())
    if signature:
        made = signature(made, base.encode())
    lines["signature-input"] = (input_form or (lambda v: f"{label}={v}"))(value) if input_value is None else input_value
    lines["signature"] = (signature_form or (lambda s: f"{label}=:{b64(s)}:"))(made)
    for name_, value_ in (after or {}).items():
        if value_ is None:
            lines.pop(name_, None)
        else:
            lines[name_] = value_
    sent = [[name_, v] for name_, value_ in lines.items() for v in ([value_] if isinstance(value_, str) else value_)]
    return {
        "name": name, "method": method_after or method, "target_uri": target_after or url,
        "has_body": body is not None if has_body is None else has_body, "headers": sent, "expect": expect,
    }


def accepted(subject="user-42", agent_id=None, body="held"):
    """`body`: "held" (a digest that the body matches), "none" (no digest), or "never" (one that nothing matches)."""
    return {"accepted": {"subject": subject, "agent_id": agent_id, "digest": body}}


def refused(row, code, reason=None):
    return {"refused": {"row": row, "code": code, "reason": reason}}


def positives():
    ok = accepted()
    nothing = accepted(body="none")
    yield request("post in the form of the SDKs", ok)
    yield request("get without body", nothing, method="GET", body=None)
    yield request("method as it was sent, the form of RFC 9421", ok, base_method="POST")
    yield request("lower-case method that was sent so", ok, method="post")
    yield request("mixed-case method signed in lower case", nothing, method="Get", body=None)
    yield request("subject and agent id", accepted("Jane Doe <jane@example.com>", "bot #1"),
                  headers={"sigilum-subject": "Jane Doe <jane@example.com>", "sigilum-agent-id": "bot #1"})
    yield request("subject and agent id of the greatest length", accepted("s" * 256, "a" * 128),
                  headers={"sigilum-subject": "s" * 256, "sigilum-agent-id": "a" * 128})
    yield request("white space around a header's value", ok, after={"sigilum-subject": " \tuser-42 "})
    yield request("components in another order", ok,
                  covered=["sigilum-agent-cert", "sigilum-subject", "@target-uri", "content-digest",
                           "sigilum-agent-key", "@method", "sigilum-namespace"])
    yield request("more components than asked for", ok,
                  add=["@authority", "@scheme", "@path", "@query", "@request-target", '"@query-param";name="stream"',
                       "content-type", "x-twice", '"x-twice";bs', '"x-dictionary";key="b"', '"x-dictionary";key="c"'],
                  extra={"content-type": "application/json", "x-twice": ["one", " two "],
                         "x-dictionary": ["a=1, b=2; q=1", 'c=("in"   list);z']})
    yield request("one of 128 query parameters", ok, add=['"@query-param";name="stream"'],
                  target="https://gateway.example/p?stream=true" + "&a=b" * 127)
    yield request("query parameter that is encoded anew", ok, target="https://gateway.example/p?a+b=x%2by&c",
                  add=['"@query-param";name="a%20b"'])
    yield request("host in capitals and a port", ok, target="https://Gateway.EXAMPLE:8443/p", add=["@authority"])
    yield request("parameters in another order", ok,
                  params={"tag": '"x"', "expires": str(NOW + 5)},
                  param_order=["tag", "nonce", "expires", "alg", "keyid", "created"])
    yield request("white space that structured fields allow", ok,
                  input_form=lambda v: "  sig1=" + v.replace('" "', '"   "').replace(";", "; ").replace("(", "( "),
                  signature_form=lambda s: f"  sig1=:{b64(s)}: ")
    yield request("another label", ok, label="*a-b_c.9")
    yield request("signatures of others beside it", ok,
                  input_form=lambda v: f'theirs=("@method");keyid="them";alg="rsa-v1_5-sha256", sig1={v}, x=1,\ty=(tok)',
                  signature_form=lambda s: f"theirs=:AAAA:, sig1=:{b64(s)}:;note, z=?0")
    yield request("signature of another label before it", ok,
                  signature_form=lambda s: f"other=:{b64(bytes(64))}:, sig1=:{b64(s)}:")
    yield request("nonce of 8 characters", ok, params={"nonce": '"12345678"'})
    yield request("nonce of 256 characters with escapes", ok,
                  params={"nonce": '"' + "n" * 254 + '\\"\\\\"'})
    yield request("created as long ago as is allowed", ok, params={"created": str(NOW - 300)})
    yield request("created as far ahead as is allowed", ok, params={"created": str(NOW + 30)})
    yield request("expires at this moment", ok, params={"expires": str(NOW)})
    yield request("certificate that ends in a second", ok, certificate=ALICE.certificate(expiresAt="2023-11-14T22:13:21Z"))
    yield request("certificate with other fields and another offset", ok,
                  certificate=ALICE.certificate(issuedAt="2023-11-01T02:00:00.25+02:00",
                                                after={"issuedBy": "test", "proof.made": [1, {"a": None}]}))
    yield request("certificate without expiresAt", ok, certificate=ALICE.certificate(after={"expiresAt": ...}))
    yield request("namespace header in capitals", ok, headers={"sigilum-namespace": "ALICE"})
    yield request("other digests beside sha-256", ok, headers={
        "content-digest": f"sha-512=:AAAA:, sha-256=:{b64(hashlib.sha256(BODY).digest())}:"})
    yield request("digest not covered and no body", nothing, method="GET", has_body=False, drop=["content-digest"])
    yield request("digest covered and no body", ok, method="GET", has_body=False)
    yield request("digest that cannot be read", accepted(body="never"), headers={"content-digest": "sha-256=:AAAA:"})
    yield request("digest of another algorithm only", accepted(body="never"), headers={"content-digest": "md5=:AAAA:"})


SIGNED = ["sigilum-namespace", "sigilum-subject", "sigilum-agent-id", "sigilum-agent-key", "sigilum-agent-cert",
          "content-digest", "signature-input", "signature"]


def row_1():
    expect = refused(1, "AUTH_HEADERS_INVALID")
    named = {"sigilum-agent-id": "bot"}
    limits = dict(zip(SIGNED, [64, 256, 128, 128, 8192, 1024, 4096, 1024]))
    for header in SIGNED:
        valid = request("", expect, headers=named)
        value = next(v for n, v in valid["headers"] if n == header)
        yield request(f"{header} twice", expect, headers=named, after={header: [value, value]})
        yield request(f"{header} with a letter that is not ASCII", expect, headers=named, after={header: value + "ü"})
        yield request(f"{header} too long", expect, headers=named, after={header: "a" * (limits[header] + 1)})
    yield request("tab inside a subject", expect, headers={"sigilum-subject": "a\tb"})
    yield request("agent id that is empty", expect, headers={"sigilum-agent-id": " "})


def row_2():
    code = "AUTH_SIGNATURE_INVALID"
    missing = refused(2, code, "SIG_MISSING_SIGNATURE_HEADERS")
    yield request("signature-input missing", missing, after={"signature-input": None})
    yield request("signature missing", missing, after={"signature": None})
    invalid = refused(2, code, "SIG_SIGNATURE_INPUT_INVALID")
    for name, value in [
        ("empty", ""), ("not a structured field", "sig1=(\"@method\""), ("an item", "sig1=1"), ("a token", "sig1"),
        ("a list of tokens", 'sig1=(method);keyid="did:sigilum:alice"'), ("a label in capitals", 'SIG1=("@method")'),
        ("two that could be meant", 'a=("x");keyid="a", b=("y");keyid="b"'),
    ]:
        yield request(f"signature-input is {name}", invalid, input_value=value)
    yield request("two signatures of the profile", invalid, input_form=lambda v: f"sig1={v}, sig2={v}",
                  signature_form=lambda s: f"sig1=:{b64(s)}:, sig2=:{b64(s)}:")
    invalid = refused(2, code, "SIG_SIGNATURE_HEADER_INVALID")
    for name, form in [
        ("under another label", lambda s: f"sig2=:{b64(s)}:"), ("a string", lambda s: f'sig1="{b64(s)}"'),
        ("of 63 bytes", lambda s: f"sig1=:{b64(s[:63])}:"), ("of 65 bytes", lambda s: f"sig1=:{b64(s + b'x')}:"),
        ("base64url", lambda s: f"sig1=:{b64url(bytes([255] * 64))}:"), ("empty", lambda s: ""),
        ("not a structured field", lambda s: f"sig1=:{b64(s)}"), ("a list", lambda s: f"sig1=(:{b64(s)}:)"),
        ("overruled by a later one", lambda s: f"sig1=:{b64(s)}:, sig1=1"),
    ]:
        yield request(f"signature is {name}", invalid, signature_form=form)


def row_3_and_4():
    code = "AUTH_SIGNATURE_INVALID"
    expect = refused(3, code, "SIG_ALGORITHM_UNSUPPORTED")
    for value in [None, '"rsa-v1_5-sha256"', '"hmac-sha256"', '"Ed25519"', "ed25519", '""']:
        yield request(f"alg is {value}", expect, params={"alg": value})
    yield request("only signature is another's", expect, params={"alg": '"rsa-pss-sha512"', "keyid": '"them"'})
    expect = refused(4, code, "SIG_CREATED_INVALID")
    for value in [None, f'"{NOW}"', f"{NOW}.5", f"@{NOW}", "?1"]:
        yield request(f"created is {value}", expect, params={"created": value})
    yield request("expires is a string", expect, params={"expires": f'"{NOW + 9}"'})
    expect = refused(4, code, "SIG_TIMESTAMP_OUT_OF_RANGE")
    for shift in [-301, 31]:
        yield request(f"created {shift} s from now", expect, params={"created": str(NOW + shift)})
    for value in ["-999999999999999", "999999999999999", "0", "-1"]:
        yield request(f"created at {value}", expect, params={"created": value})
    yield request("expired a second ago", expect, params={"expires": str(NOW - 1)})


def row_5():
    code = "AUTH_SIGNATURE_INVALID"
    yield request("certificate missing", refused(5, code, "SIG_CERT_HEADER_MISSING"), headers={"sigilum-agent-cert": None})
    expect = refused(5, code, "SIG_CERT_HEADER_INVALID")
    texts = [json.dumps(ALICE.certificate(after={"note": "???>>>~~~???" + "n" * n}), separators=(",", ":")).encode()
             for n in range(3)]
    whole = next(text for text in texts if len(text) % 3 == 1)
    unpadded = next(text for text in texts if len(text) % 3 == 0)
    assert "/" in b64(unpadded)
    for name, value in [
        ("empty", ""), ("not base64", "a certificate"), ("padded", base64.urlsafe_b64encode(whole).decode()),
        ("standard base64", b64(unpadded)), ("not JSON", b64url(b"{")),
        ("a list", b64url(b"[]")), ("two JSON texts", b64url(whole + b"{}")),
        ("JSON with a field twice", b64url(b'{"version":1,' + whole[1:])),
    ]:
        yield request(f"certificate is {name}", expect, headers={"sigilum-agent-cert": value})
    for field in ["version", "namespace", "did", "keyId", "publicKey", "issuedAt", "proof", "proof.alg", "proof.sig"]:
        yield request(f"certificate without {field}", expect, certificate=ALICE.certificate(after={field: ...}))
    yield request("certificate whose expiresAt is a number", expect, certificate=ALICE.certificate(after={"expiresAt": 1}))
    expect = refused(5, code, "SIG_CERT_INVALID")
    for name, certificate in [
        ("of version 2", ALICE.certificate(version=2)),
        ("with a namespace in capitals", ALICE.certificate(namespace="Alice")),
        ("with a namespace that is none", ALICE.certificate(namespace="a_b")),
        ("with another's DID", ALICE.certificate(did=MALLORY.did)),
        ("with another DID method", ALICE.certificate(did="did:web:alice")),
        ("with another key's id", ALICE.certificate(keyId=SAME_NAME.key_id)),
        ("with another key", ALICE.certificate(publicKey=MALLORY.public_text)),
        ("with a key of small order", ALICE.certificate(publicKey="ed25519:" + b64(bytes(32)))),
        ("with a key without padding", ALICE.certificate(publicKey=ALICE.public_text.rstrip("="))),
        ("issued on no date", ALICE.certificate(issuedAt="yesterday")),
        ("that ends on no date", ALICE.certificate(expiresAt="tomorrow")),
        ("that ends on an empty date", ALICE.certificate(after={"expiresAt": ""})),
        ("whose end was taken away", ALICE.certificate(expiresAt="2023-11-02T00:00:00Z", after={"expiresAt": None})),
        ("whose issue was moved", ALICE.certificate(after={"issuedAt": "2023-11-01T00:00:00.0Z"})),
        ("whose DID was changed", ALICE.certificate(after={"did": MALLORY.did})),
        ("whose DID method was changed", ALICE.certificate(after={"did": "did:web:alice"})),
        ("whose key id was changed", ALICE.certificate(after={"keyId": SAME_NAME.key_id})),
        ("whose namespace was put into capitals", ALICE.certificate(after={"namespace": "Alice"})),
        ("of another algorithm", ALICE.certificate(after={"proof.alg": "Ed25519"})),
        ("whose proof is empty", ALICE.certificate(after={"proof.sig": ""})),
        ("whose proof is padded", ALICE.certificate(after={"proof.sig": ALICE.certificate()["proof"]["sig"] + "=="})),
        ("proven by another", ALICE.certificate(signer=MALLORY)),
        ("whose proof is another certificate's", ALICE.certificate(after={"proof": ALICE_PROD.certificate()["proof"]})),
    ]:
        yield request(f"certificate {name}", expect, certificate=certificate)
    expect = refused(5, code, "SIG_CERT_EXPIRED")
    yield request("certificate that ended long ago", expect, certificate=ALICE.certificate(expiresAt="2023-11-02T00:00:00Z"))
    yield request("certificate that ends at this moment", expect,
                  certificate=ALICE.certificate(expiresAt="2023-11-14T23:13:20+01:00"))


def row_6():
    code = "AUTH_IDENTITY_INVALID"
    for name, reason, headers in [
        ("namespace missing", "SIG_NAMESPACE_MISMATCH", {"sigilum-namespace": None}),
        ("namespace of another", "SIG_NAMESPACE_MISMATCH", {"sigilum-namespace": "mallory"}),
        ("subject missing", "SIG_SUBJECT_MISSING", {"sigilum-subject": None}),
        ("subject empty", "SIG_SUBJECT_MISSING", {"sigilum-subject": " "}),
        ("key missing", "SIG_KEY_HEADER_MISSING", {"sigilum-agent-key": None}),
        ("key without prefix", "SIG_KEY_HEADER_INVALID", {"sigilum-agent-key": ALICE.public_text[8:]}),
        ("key without padding", "SIG_KEY_HEADER_INVALID", {"sigilum-agent-key": ALICE.public_text.rstrip("=")}),
        ("key of small order", "SIG_KEY_HEADER_INVALID", {"sigilum-agent-key": "ed25519:" + b64(bytes(32))}),
        ("key of another", "SIG_KEY_MISMATCH", {"sigilum-agent-key": MALLORY.public_text}),
    ]:
        yield request(name, refused(6, code, reason), headers=headers)
    expect = refused(6, code, "SIG_KEY_ID_MISMATCH")
    for name, keyid in [("missing", None), ("another key's", f'"{SAME_NAME.key_id}"'), ("the DID", f'"{ALICE.did}"'),
                        ("a token", "k"), ("in capitals", f'"{ALICE.key_id.replace("ed25519", "ED25519")}"')]:
        yield request(f"keyid is {name}", expect, params={"keyid": keyid})
    yield request("certificate of another, own key", refused(6, code, "SIG_NAMESPACE_MISMATCH"),
                  certificate=MALLORY.certificate())
    yield request("certificate of the same name and another key", refused(6, code, "SIG_KEY_MISMATCH"),
                  certificate=SAME_NAME.certificate())


def row_7():
    code = "AUTH_SIGNED_COMPONENTS_INVALID"
    expect = refused(7, code, "SIG_SIGNED_COMPONENTS_INVALID")
    named = {"sigilum-agent-id": "bot"}
    for name in ["@method", "@target-uri", "content-digest", "sigilum-namespace", "sigilum-agent-id",
                 "sigilum-agent-key", "sigilum-agent-cert"]:
        yield request(f"{name} not covered", expect, headers=named, drop=[name])
    yield request("body without digest", expect, headers={"content-digest": None})
    yield request("body without digest that is covered", expect, headers={"content-digest": None}, add=["content-digest"])
    subject = refused(7, code, "SIG_SUBJECT_COMPONENT_MISSING")
    yield request("sigilum-subject not covered", subject, drop=["sigilum-subject"])
    yield request("sigilum-subject covered as bytes only", subject, drop=["sigilum-subject"], add=['"sigilum-subject";bs'])
    yield request("nothing covered", subject, covered=[])
    yield request("@method covered with a parameter only", expect, drop=["@method"], add=['"@method";req'])
    for component in ["@method", "sigilum-subject", "content-type"]:
        yield request(f"{component} covered once more", expect, add=[component, "content-type"],
                      extra={"content-type": "text/plain"})
    yield request("one component with a parameter twice", expect, add=['"x-twice";bs', '"x-twice";bs'],
                  extra={"x-twice": ["one", "two"]})
    yield request("same parameters in another order", expect,
                  add=['"x-a";key="b";sf', '"x-a";sf;key="b"'], extra={"x-a": "b=1"})
    for component in ["@status", "@unknown", "@signature-params", "@query-param", '"@query-param";name="none"',
                      '"@path";req', '"@method";sf', "x-absent", '"x-absent";bs', '"content-type";tr',
                      '"content-type";sf', '"content-type";bs=?0', '"content-type";unknown', '"content-type";key="a"',
                      '"content-type";key=a', "Content-Type", "content type", "", '"sigilum-subject";sf',
                      "x-latin"]:
        yield request(f"component {component} cannot be resolved", expect, add=[component],
                      extra={"content-type": "text/plain", "x-latin": "ü"})
    yield request("query parameter that stands twice", expect, target="https://gateway.example/p?stream=true&stream=true",
                  add=['"@query-param";name="stream"'])
    yield request("9 components with parameters", expect, extra={"x-d": ", ".join(f"k{n}=1" for n in range(9))},
                  add=[f'"x-d";key="k{n}"' for n in range(9)])
    yield request("member of a dictionary that is too long", expect, extra={"x-d": "a=1, b=" + "1" * 4096},
                  add=['"x-d";key="a"'])
    yield request("one of 129 query parameters", expect, add=['"@query-param";name="stream"'],
                  target="https://gateway.example/p?stream=true" + "&a=b" * 128)
    yield request("65 components", expect, add=[f"x-{n}" for n in range(58)], extra={f"x-{n}": "a" for n in range(58)})


def row_8_and_9():
    expect = refused(8, "AUTH_NONCE_INVALID")
    for name, nonce in [("missing", None), ("a token", "abcdefghij"), ("an integer", "123456789"), ("empty", '""'),
                        ("of 7 characters", '"1234567"'), ("of 257 characters", '"' + "n" * 257 + '"'),
                        ("of 7 characters with escapes", '"12345\\"\\\\"')]:
        yield request(f"nonce is {name}", expect, params={"nonce": nonce})
    expect = refused(9, "AUTH_SIGNATURE_INVALID", "SIG_VERIFICATION_FAILED")
    yield request("method changed", expect, method_after="DELETE")
    yield request("method signed in a third form", expect, base_method="Post")
    for name, target in [
        ("scheme", "http://gateway.example/proxy/openai/v1/chat?stream=true"),
        ("host", "https://gateway.example.org/proxy/openai/v1/chat?stream=true"),
        ("port", "https://gateway.example:8443/proxy/openai/v1/chat?stream=true"),
        ("path", "https://gateway.example/proxy/openai/v1/chats?stream=true"),
        ("spelling of the path", "https://gateway.example/proxy/openai/v1/ch%61t?stream=true"),
        ("query", "https://gateway.example/proxy/openai/v1/chat?stream=false"),
    ]:
        yield request(f"{name} changed", expect, target_after=target)
    yield request("subject changed", expect, after={"sigilum-subject": "user-43"})
    yield request("agent id changed", expect, headers={"sigilum-agent-id": "bot"}, after={"sigilum-agent-id": "bots"})
    yield request("digest changed", expect, after={"content-digest": f"sha-256=:{b64(hashlib.sha256(b'x').digest())}:"})
    yield request("namespace spelled otherwise", expect, after={"sigilum-namespace": "Alice"})
    yield request("certificate exchanged for another of the same key", expect,
                  after={"sigilum-agent-cert": header_of(ALICE.certificate(issuedAt="2023-11-02T00:00:00Z"))})
    yield request("further component changed", expect, add=["x-a"], extra={"x-a": "1"}, after={"x-a": "2"})
    for name, old, new in [("created", f"created={NOW}", f"created={NOW + 1}"), ("nonce", "nonce=\"1", "nonce=\"2"),
                           ("order of the components", '"@method" "@target-uri"', '"@target-uri" "@method"'),
                           ("parameters, one more", ";nonce", ";tag=\"x\";nonce")]:
        yield request(f"{name} changed", expect,
                      input_form=lambda v, old=old, new=new: "sig1=" + v.replace(old, new))
    yield request("parameter taken away", expect, params={"expires": str(NOW + 9)},
                  input_form=lambda v: "sig1=" + v.replace(f";expires={NOW + 9}", ""))

    def larger_s(made, _):
        return made[:32] + (int.from_bytes(made[32:], "little") + ORDER).to_bytes(32, "little")

    yield request("S not reduced", expect, signature=larger_s)
    yield request("R flipped", expect, signature=lambda s, _: bytes([s[0] ^ 1]) + s[1:])
    yield request("S flipped", expect, signature=lambda s, _: s[:32] + bytes([s[32] ^ 1]) + s[33:])
    yield request("zeros", expect, signature=lambda s, _: bytes(64))
    yield request("R is the identity", expect, signature=lambda s, _: bytes([1]) + bytes(63))
    yield request("R of small order, made with the key itself", expect,
                  signature=lambda _, base: ALICE.sign_with_r_of_small_order(base))
    yield request("signed by another", expect, signature=lambda s, _: MALLORY.key.sign(b"something else"))


def order():
    """Two rows are broken; the earlier one is named."""
    yield request("row 1 before row 2", refused(1, "AUTH_HEADERS_INVALID"),
                  after={"signature": None, "sigilum-subject": ["a", "b"]})
    yield request("row 2 before row 3", refused(2, "AUTH_SIGNATURE_INVALID", "SIG_SIGNATURE_HEADER_INVALID"),
                  params={"alg": '"rsa"'}, signature_form=lambda s: "sig1=1")
    yield request("row 3 before row 4", refused(3, "AUTH_SIGNATURE_INVALID", "SIG_ALGORITHM_UNSUPPORTED"),
                  params={"alg": '"rsa"', "created": None})
    yield request("row 4 before row 5", refused(4, "AUTH_SIGNATURE_INVALID", "SIG_TIMESTAMP_OUT_OF_RANGE"),
                  params={"created": "1"}, headers={"sigilum-agent-cert": None})
    yield request("row 5 before row 6", refused(5, "AUTH_SIGNATURE_INVALID", "SIG_CERT_INVALID"),
                  certificate=ALICE.certificate(signer=MALLORY), headers={"sigilum-namespace": "mallory"})
    yield request("row 6 before row 7", refused(6, "AUTH_IDENTITY_INVALID", "SIG_KEY_ID_MISMATCH"),
                  params={"keyid": f'"{MALLORY.key_id}"'}, drop=["@method"])
    yield request("row 7 before row 8", refused(7, "AUTH_SIGNED_COMPONENTS_INVALID", "SIG_SIGNED_COMPONENTS_INVALID"),
                  params={"nonce": None}, add=["x-absent"])
    yield request("row 8 before row 9", refused(8, "AUTH_NONCE_INVALID"), params={"nonce": '"short"'}, method_after="PUT")


def is_on_curve(y):
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    return square == 0 or pow(square, (P - 1) // 2, P) == 1


def public_keys():
    """Encodings and whether they are keys: points of small order (the eight), encodings that are not canonical, none."""
    small = ["0100000000000000000000000000000000000000000000000000000000000000",
             "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
             "0000000000000000000000000000000000000000000000000000000000000000",
             "0000000000000000000000000000000000000000000000000000000000000080",
             "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
             "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
             "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
             "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"]
    for point in small:
        yield {"name": "small order", "hex": point, "key": False}
    for name, value in [("identity, other sign", (1 | 1 << 255)), ("order 2, other sign", (P - 1) | 1 << 255)]:
        yield {"name": f"small order, not canonical: {name}", "hex": value.to_bytes(32, "little").hex(), "key": False}
    for excess in range(19):
        for sign in (0, 1 << 255):
            kind = "not canonical" if is_on_curve(excess) else "not canonical and no point"
            yield {"name": f"{kind}: y = p + {excess}", "hex": ((P + excess) | sign).to_bytes(32, "little").hex(), "key": False}
    for y in range(2, 12):
        yield {"name": f"y = {y}", "hex": y.to_bytes(32, "little").hex(), "key": is_on_curve(y)}
    for agent in (ALICE, MALLORY):
        yield {"name": agent.namespace, "hex": agent.public.hex(), "key": True}


def identity_records():
    """Records with one thing changed, and the field that the fault names (`null`: the record holds)."""
    def record(name, fault, agent=ALICE, **changes):
        fields = agent.record()
        for key, value in changes.items():
            if value is ...:
                del fields[key]
            else:
                fields[key] = value
        return {"name": name, "fault": fault, "record": fields}

    yield record("as it should be", None)
    yield record("fields that are not known", None, migrationHint={"b": [1, 2.5], "a": None},
                 certificate=ALICE.certificate(after={"issuedBy": "someone"}))
    yield record("expired certificate", None, certificate=ALICE.certificate(expiresAt="2023-11-02T00:00:00Z"))
    for field in ["version", "namespace", "did", "keyId", "publicKey", "privateKey", "certificate", "createdAt", "updatedAt"]:
        yield record(f"without {field}", field, **{field: ...})
        yield record(f"{field} is a list", field, **{field: []})
    yield record("version 2", "version", version=2)
    yield record("version is text", "version", version="1")
    yield record("namespace in capitals", "namespace", namespace="Alice")
    yield record("namespace that is none", "namespace", namespace="a")
    yield record("another namespace", "did", namespace="alice-prod")
    yield record("another DID", "did", did=MALLORY.did)
    yield record("another key id", "keyId", keyId=MALLORY.key_id)
    yield record("another public key", "publicKey", publicKey=MALLORY.public_text)
    yield record("another private key", "publicKey", privateKey=b64(MALLORY.seed))
    yield record("private key of 31 bytes", "privateKey", privateKey=b64(ALICE.seed[:31]))
    yield record("private key of 64 bytes", "privateKey", privateKey=b64(ALICE.seed + ALICE.public))
    yield record("private key without padding", "privateKey", privateKey=b64(ALICE.seed).rstrip("="))
    yield record("certificate of another namespace", "namespace", certificate=ALICE_PROD.certificate())
    yield record("certificate of another key", "publicKey", certificate=SAME_NAME.certificate())
    yield record("certificate proven by another", "certificate", certificate=ALICE.certificate(signer=MALLORY))
    yield record("certificate as text", "certificate", certificate=header_of(ALICE.certificate()))
    yield record("certificate too large", "certificate", certificate=ALICE.certificate(after={"note": "n" * 6000}))
    yield record("created on no date", "createdAt", createdAt="2023-11-01")
    yield record("updated on no date", "updatedAt", updatedAt="")


def write(name, content):
    """One vector a line."""
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in content)
    (HERE / name).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    rows = [positives, row_1, row_2, row_3_and_4, row_5, row_6, row_7, row_8_and_9, order]
    requests = [vector for row in rows for vector in row()]
    names = [vector["name"] for vector in requests]
    assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
    write("signed-requests.json", requests)
    write("public-keys.json", list(public_keys()))
    write("identity-records.json", list(identity_records()))
    print(len(requests), "requests")
