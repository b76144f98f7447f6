"""A beacon's signature: the real vector is right, and whatever else is given is wrong."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256

import pytest

from flashsale import ConfigurationError, beacons
from flashsale.beacons import QUICKNET, check_signature

KEY = bytes.fromhex(QUICKNET.public_key)
SIGNATURE = bytes.fromhex(
    "b55e7cb2d5c613ee0b2e28d6750aabbb78c39dcc96bd9d38c2c2e12198df9557"
    "1de8e8e402a0cc48871c7089a2b3af4b"
)
"""Of quicknet's first round."""
ZERO = bytes([0xC0, *bytes(47)])


def test_the_rounds_of_quicknet_come_every_three_seconds() -> None:
    genesis = QUICKNET.genesis_ms
    assert QUICKNET.time_of(1) == genesis == 1_692_803_367_000
    assert QUICKNET.time_of(1_000) == genesis + 999 * 3_000
    assert [QUICKNET.round_after(genesis + ms) for ms in (-9_000, -1, 0, 2_999, 3_000)] == [
        *(1, 1, 2, 2, 3)
    ]
    for at_ms in range(genesis - 4_000, genesis + 9_000, 500):
        number = QUICKNET.round_after(at_ms)
        assert QUICKNET.time_of(number) > at_ms
        assert number == 1 or QUICKNET.time_of(number - 1) <= at_ms


def test_the_randomness_of_a_round_is_the_hash_of_its_signature() -> None:
    told = "1466a6cd24e327188770752f6134001c64d6efcc590ccc26b721611ad96f165a"
    assert sha256(SIGNATURE).hexdigest() == told


def test_a_real_signature_of_quicknet_is_right() -> None:
    assert check_signature(KEY, 1, SIGNATURE)


@pytest.mark.parametrize(
    ("number", "signature"),
    [
        (2, SIGNATURE),
        (1, bytes([SIGNATURE[0] ^ 0x20, *SIGNATURE[1:]])),  # the other point with this x
        (1, SIGNATURE[:-1] + b"\x4c"),
        (1, ZERO),
        (1, bytes(48)),
        (1, b"\xff" * 48),
        (1, SIGNATURE[:-1]),
        (1, SIGNATURE + b"\0"),
        (1, b""),
        (-1, SIGNATURE),
        (2**64, SIGNATURE),
    ],
    ids=range(11),
)
def test_what_the_beacon_did_not_sign_is_wrong_and_no_error(number: int, signature: bytes) -> None:
    assert not check_signature(KEY, number, signature)


def test_a_point_outside_the_group_is_no_signature() -> None:
    """It is on the curve: x = 4 has a square root, and its point a factor of the cofactor."""
    beacons.load_py_ecc()
    from py_ecc.bls.g2_primitives import pubkey_to_G1, subgroup_check

    outside = bytes([0x80, *bytes(46), 4])
    assert not subgroup_check(pubkey_to_G1(outside))
    assert not check_signature(KEY, 1, outside)


@pytest.mark.parametrize("key", [b"", bytes(96), ZERO + bytes(48), KEY[:-1] + b"\0", KEY[:48]])
def test_what_is_no_public_key_signs_nothing(key: bytes) -> None:
    assert not check_signature(key, 1, SIGNATURE)


def test_a_local_beacon_signs_its_own_rounds_and_no_others() -> None:
    from support.beacon import local_beacon, sign

    key = bytes.fromhex(local_beacon().public_key)
    assert check_signature(key, 7, sign(7))
    assert not check_signature(key, 8, sign(7))
    assert not check_signature(key, 7, sign(7, key=8))
    assert not check_signature(KEY, 7, sign(7))


def test_without_the_extra_nothing_is_said_about_a_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beacons, "can_check_signatures", lambda: False)
    with pytest.raises(ConfigurationError, match=r"flashsale\[drand\]"):
        check_signature(KEY, 1, SIGNATURE)


def test_checking_a_signature_leaves_python_as_deep_as_it_was() -> None:
    """py-ecc raises the limit to what overflows the stack: then deep JSON kills the process."""
    code = (
        "import sys; from flashsale.beacons import QUICKNET, check_signature;"
        "before = sys.getrecursionlimit();"
        "check_signature(bytes.fromhex(QUICKNET.public_key), 1, bytes(48));"
        "assert sys.getrecursionlimit() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
