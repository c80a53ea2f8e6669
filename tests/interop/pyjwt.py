"""Owner tokens in another implementation of JWT: `pyjwt.py <secret in hex> decode <token>` prints the claims, and
`encode <sub> <namespace>` a token; `encode-none` one without a signature."""

import json
import sys
import time

import jwt

secret, mode = bytes.fromhex(sys.argv[1]), sys.argv[2]
if mode == "decode":
    required = ["sub", "email", "namespace", "iss", "aud", "iat", "exp"]
    claims = jwt.decode(
        sys.argv[3],
        secret,
        algorithms=["HS256"],
        audience="sigilum-api",
        issuer="sigilum",
        options={"require": required},
    )
    print(json.dumps(claims, sort_keys=True))
else:
    now = int(time.time())
    claims = {
        "sub": sys.argv[3],
        "email": "made@there.example",
        "namespace": sys.argv[4],
        "iss": "sigilum",
        "aud": "sigilum-api",
        "iat": now,
        "exp": now + 60,
    }
    if mode == "encode":
        print(jwt.encode(claims, secret, algorithm="HS256"))
    else:
        print(jwt.encode(claims, None, algorithm="none"))
