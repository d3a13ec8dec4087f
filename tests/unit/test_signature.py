"""The webhook signature: who is believed, and that nothing in a header can break the check."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.signature import Verifier, sign

BODY = b'{"event_id": "e-1"}'
# Made with: printf '{"event_id": "e-1"}' | openssl dgst -sha256 -hmac key-1
SIGNED = "sha256=15a728364e3c83758bea1abc5a6a7f790be314cf31d5f4147d7369b214504883"


def test_the_signature_is_the_hex_hmac_that_openssl_makes() -> None:
    assert sign(BODY, "key-1") == SIGNED


def test_a_body_signed_with_the_secret_is_found() -> None:
    assert Verifier(["key-1"]).find_secret(BODY, SIGNED.encode()) == 0


def test_each_of_several_secrets_is_accepted_and_told_by_its_index() -> None:
    verifier = Verifier(["new", "old", "oldest"])
    found = [verifier.find_secret(BODY, sign(BODY, secret).encode()) for secret in ("new", "old", "oldest")]
    assert found == [0, 1, 2]


def test_a_secret_may_hold_any_text() -> None:
    assert Verifier(["kľúč ₹ 🔑"]).find_secret(BODY, sign(BODY, "kľúč ₹ 🔑").encode()) == 0


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"sha256=",
        SIGNED.removeprefix("sha256=").encode(),
        SIGNED.replace("sha256=", "sha1=").encode(),
        SIGNED.upper().encode(),
        SIGNED[:-1].encode(),
        SIGNED.encode() + b"0",
        b" " + SIGNED.encode(),
        SIGNED.encode() + b", " + SIGNED.encode(),
        "sha256=é".encode(),
        b"sha256=\xff\xfe\x00",
    ],
)
def test_anything_but_the_exact_signature_is_refused(signature: bytes) -> None:
    assert Verifier(["key-1", "key-2"]).find_secret(BODY, signature) is None


def test_a_changed_body_or_secret_is_refused() -> None:
    verifier = Verifier(["key-1"])
    assert verifier.find_secret(BODY + b" ", SIGNED.encode()) is None
    assert verifier.find_secret(BODY, sign(BODY, "key-2").encode()) is None


def test_without_secrets_nobody_is_believed() -> None:
    assert Verifier([]).find_secret(BODY, sign(BODY, "").encode()) is None


@settings(deadline=None, derandomize=True)
@given(body=st.binary(), forged=st.binary(max_size=80), secret=st.text(st.characters(exclude_categories=["Cs"])))
def test_only_what_sign_makes_is_accepted_whatever_the_body(body: bytes, forged: bytes, secret: str) -> None:
    verifier = Verifier([secret])
    genuine = sign(body, secret).encode()
    assert verifier.find_secret(body, genuine) == 0
    assert verifier.find_secret(body, forged) == (0 if forged == genuine else None)
