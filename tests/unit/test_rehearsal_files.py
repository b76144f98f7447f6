from __future__ import annotations

from pathlib import Path

import pytest

from flashsale import InvalidRequest, Sale, Sku
from flashsale.rehearsal import read_curve, read_sale

GOOD_SALE = """
id = "1111"
hold_ttl_ms = 600_000
limit = 3
[[skus]]
id = "lipstick"
stock = 10_000
limit = 2
[[skus]]
id = "perfume"
stock = 50
"""


@pytest.fixture
def sale_file(tmp_path: Path) -> Path:
    return tmp_path / "sale.toml"


@pytest.fixture
def curve_file(tmp_path: Path) -> Path:
    return tmp_path / "curve.csv"


def test_a_sale_file_is_read_whole(sale_file: Path) -> None:
    sale_file.write_text(GOOD_SALE)
    assert read_sale(sale_file) == Sale(
        "1111",
        [Sku("lipstick", 10_000, 2), Sku("perfume", 50)],
        hold_ttl_ms=600_000,
        limit=3,
    )


@pytest.mark.parametrize(
    ("before", "after", "field", "rule"),
    [
        ("limit = 3", "limt = 3", "limt", "is not a field; the fields are id, skus"),
        ("limit = 2", "limits = 2", r"skus\[0\].limits", "is not a field"),
        ('id = "1111"', "", "id", "is missing"),
        ("stock = 50", "", r"skus\[1\].stock", "is missing"),
        ("stock = 50", "stock = -1", r"skus\[1\]: stock of 'perfume'", "must be"),
        ("stock = 50", 'stock = "50"', r"skus\[1\].stock", "expected `int`"),
        ("stock = 50", "stock = true", r"skus\[1\].stock", "expected `int`"),
        ("stock = 50", "stock = 1.5", r"skus\[1\].stock", "expected `int`"),
        ('"perfume"', '"lipstick"', "skus", "appears twice"),
        ('"perfume"', '"per fume"', r"skus\[1\]: sku", "must be 1 to 64 characters"),
        ("600_000", "0", "hold_ttl_ms", "must be from 1"),
        ("[[skus]]", "[skus]", "", "TOML"),
        ("limit = 3", "limit =", "", "must be TOML"),
    ],
)
def test_a_wrong_sale_names_file_field_and_rule(
    sale_file: Path, before: str, after: str, field: str, rule: str
) -> None:
    sale_file.write_text(GOOD_SALE.replace(before, after))
    with pytest.raises(InvalidRequest, match=rule) as caught:
        read_sale(sale_file)
    assert caught.value.field.startswith(str(sale_file))
    assert caught.match(f"sale.toml.*{field}")


def test_a_sale_without_skus_is_refused(sale_file: Path) -> None:
    sale_file.write_text('id = "x"\nskus = []\n')
    with pytest.raises(InvalidRequest, match=r"sale.toml: skus: must be 1 to"):
        read_sale(sale_file)


@pytest.mark.parametrize("read", [read_sale, read_curve])
def test_a_file_that_cannot_be_read_is_named(read: object, tmp_path: Path) -> None:
    assert callable(read)
    with pytest.raises(InvalidRequest, match=r"missing\.x: cannot be read: No such file"):
        read(tmp_path / "missing.x")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="bytes, line 1: must be text in UTF-8"):
        read(tmp_path / "bytes")


@pytest.mark.parametrize(
    "text",
    [
        "second,rate_per_s\n0,0\n10,2500\n60,100\n",
        "\ufeffSecond , Rate_per_s\n0,0\n\n10,2.5e3\n60,100.\n",
        "note,t,rate\nx,0,0\ny,10,2500\nz,60,100\n",
        '"second","arrivals_per_s"\r\n"0","0"\r\n"10","2500"\r\n"60","100"\r\n',
    ],
)
def test_a_curve_file_is_read_by_its_header(curve_file: Path, text: str) -> None:
    curve_file.write_text(text, "utf-8", newline="")
    curve = read_curve(curve_file)
    assert curve.points == ((0, 0), (10, 2500), (60, 100))
    assert curve.ends_s == 60
    assert curve.source == "the file curve.csv"


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("", "line 1", "must name one column 'second'"),
        ("0,0\n1,1\n", "line 1", "must name one column 'second'"),
        ("second,x\n0,0\n", "line 1", "must name one column 'rate_per_s'"),
        ("second,t,rate\n0,0,0\n", "line 1", "not 2 of them"),
        ("second,rate_per_s\n0,0\n1,many\n", "line 3, rate_per_s", "not 'many'"),
        ("second,rate_per_s\n0,0\n1\n", "line 3, rate_per_s", "not ''"),
        ("second,rate_per_s\n0,0\n1,-5\n", "line 3, rate_per_s", "number from 0"),
        ("second,rate_per_s\n0,0\n1,nan\n", "line 3, rate_per_s", "number from 0"),
        ("second,rate_per_s\n0,0\n1,1_000\n", "line 3, rate_per_s", "number from 0"),
        ("second,rate_per_s\n0,0\n1,٣\n", "line 3, rate_per_s", "number from 0"),
        ("second,rate_per_s\n0,0\n1,1e999\n", "line 3, rate", "finite"),
        ("second,rate_per_s\n0,0\n\n5,1\n5,2\n", "line 5, second", "later than 5, not 5"),
        ("second,rate_per_s\n0,0\n5,1\n4,2\n", "line 4, second", "later than 5, not 4"),
        ("second,rate_per_s\n0,10\n", "curve.csv", "points must be two or more"),
        ("second,rate_per_s\n0,0\n9,0\n", "curve.csv", "must not all have the rate 0"),
    ],
)
def test_a_wrong_curve_names_file_line_and_rule(
    curve_file: Path, text: str, place: str, rule: str
) -> None:
    curve_file.write_text(text)
    with pytest.raises(InvalidRequest) as caught:
        read_curve(curve_file)
    assert str(curve_file) in str(caught.value)
    assert place in str(caught.value)
    assert rule in str(caught.value)


def test_a_file_beyond_the_bound_is_not_read(curve_file: Path) -> None:
    with curve_file.open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(InvalidRequest, match="must be at most 10,000,000 bytes"):
        read_curve(curve_file)


# --- whatever a file holds ------------------------------------------------------------------

GOOD_CURVE = "second,rate_per_s\n0,0\n10,25\n60,1\n"
ODD_CURVES: dict[str, tuple[bytes, str, str]] = {
    "a huge field": (f"second,rate_per_s\n0,{'9' * 200_000}\n".encode(), "line 2", "must be CSV"),
    "a huge number": (f"second,rate_per_s\n0,{'9' * 500}\n".encode(), "line 2, rate", "finite"),
    "a quote that never ends": (b'second,rate_per_s\n0,0\n"10,2\n', "line 3", "must be CSV"),
    "Latin-1": ("second,rate_per_s,né\n0,0,é\n".encode("latin-1"), "line 1", "UTF-8"),
    "Latin-1 later": (GOOD_CURVE.encode() + b"70,1,\xe9\n", "line 5", "UTF-8"),
    "NUL": (GOOD_CURVE.encode() + b"70,\x001\n", "line 5", "without NUL"),
    "UTF-16": (GOOD_CURVE.encode("utf-16"), "line 1", "this is UTF-16"),
    "UTF-16 without a mark": (GOOD_CURVE.encode("utf-16-le"), "line 1", "without NUL"),
    "a line separator": ("second,rate_per_s\n0,0\u20281,1\n5,5\n".encode(), "line 2", "a number"),
    "digits of another script": ("second,rate_per_s\n٣,1\n".encode(), "line 2", "a number"),
}


@pytest.mark.parametrize("odd", ODD_CURVES)
def test_whatever_a_curve_file_holds_the_error_names_file_line_and_rule(
    curve_file: Path, odd: str
) -> None:
    data, line, rule = ODD_CURVES[odd]
    curve_file.write_bytes(data)
    with pytest.raises(InvalidRequest) as error:
        read_curve(curve_file)
    assert error.value.field.startswith(f"{curve_file}, {line}")
    assert rule in error.value.rule
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_a_byte_order_mark_are_taken(curve_file: Path, line_end: str) -> None:
    curve_file.write_bytes(("\ufeff" + GOOD_CURVE.replace("\n", line_end)).encode())
    assert read_curve(curve_file).points == ((0, 0), (10, 25), (60, 1))


ODD_SALES: dict[str, tuple[bytes, str]] = {
    "nested too deep": (b"x = " + b"[" * 100_000, "nested too deep"),
    "a number without end": (f"{GOOD_SALE}x = {'9' * 5_000}\n".encode(), "line 12: must be TOML"),
    "a name that is no name": (b'"\x1b[31m\\n" = 1\n', "sale.toml"),
    "Latin-1": (GOOD_SALE.encode() + b"# \xe9\n", "line 12: must be text in UTF-8"),
    "UTF-16": (GOOD_SALE.encode("utf-16"), "line 1: must be text in UTF-8, without NUL: this is"),
    "nothing": (b"", "id: is missing"),
    "a date for a time": (f"opens_at_ms = 2026-11-11\n{GOOD_SALE}".encode(), "opens_at_ms: "),
    "seconds for a time": (
        f"opens_at_ms = 1_763_900_000\n{GOOD_SALE}".encode(),
        "it looks like seconds",
    ),
}


@pytest.mark.parametrize("odd", ODD_SALES)
def test_whatever_a_sale_file_holds_the_error_names_it_and_the_rule(
    sale_file: Path, odd: str
) -> None:
    data, told = ODD_SALES[odd]
    sale_file.write_bytes(data)
    with pytest.raises(InvalidRequest) as error:
        read_sale(sale_file)
    assert error.value.field.startswith(str(sale_file))
    assert told in str(error.value)
    assert str(error.value).isprintable()


def test_a_device_that_never_ends_is_read_up_to_the_bound() -> None:
    with pytest.raises(InvalidRequest, match="^/dev/zero: must be at most 10,000,000 bytes"):
        read_curve("/dev/zero")
