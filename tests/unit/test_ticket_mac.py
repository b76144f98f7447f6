"""What signs a ticket is HMAC-SHA256, however it is worked out."""

from __future__ import annotations

import base64
import hmac

import pytest

from flashsale import Key
from flashsale.tokens import Ticket, sign_ticket


@pytest.mark.parametrize("length", [32, 63, 64, 65, 200, 1_024])
def test_a_ticket_ends_in_the_hmac_of_what_it_says_of_its_sale_and_of_its_buyer(
    length: int,
) -> None:
    key = Key("k1", bytes(n % 256 for n in range(length)))
    text = sign_ticket(key, "1111", "ann", Ticket(7, 1_763_900_000_000, 1_763_986_400_000))
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    signed = b"flashsale.ticket" + raw[:-16] + b"\0\0\0\x041111" + b"\0\0\0\x03ann"
    assert raw[-16:] == hmac.digest(key.secret, signed, "sha256")[:16]
