"""A server's URL is taken as it is meant, or refused by the rule it breaks, and tells no secret."""

from __future__ import annotations

import inspect
import logging
import string
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis
import redis.asyncio.connection
import redis.connection
from hypothesis import given
from hypothesis import strategies as st

from flashsale import AsyncFlashSale, ConfigurationError, FlashSale
from flashsale.server_url import ANYWHERE, TCP, TLS, checked_url

MODULES = (redis.connection, redis.asyncio.connection)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("redis://localhost", "redis://localhost"),
        ("REDIS://localhost:6380/3", "redis://localhost:6380/3"),
        ("RedisS://localhost", "rediss://localhost"),
        ("valkey://localhost", "redis://localhost"),
        ("VALKEYS://localhost:1/", "rediss://localhost:1/"),
        ("Unix:///run/valkey.sock?db=2", "unix:///run/valkey.sock?db=2"),
        ("unix://me:pass@/run/valkey.sock", "unix://me:pass@/run/valkey.sock"),
        ("redis://me:a:b@[::1]:7?protocol=3", "redis://me:a:b@[::1]:7?protocol=3"),
        ("redis://h?client_name=a%2Bb", "redis://h?client_name=a%2Bb"),
        ("redis://shop.internal.", "redis://shop.internal."),
        (f"redis://{63 * 'a'}.internal", f"redis://{63 * 'a'}.internal"),
        ("redis://läden.example", "redis://läden.example"),
        ("redis://shop_1", "redis://shop_1"),
        ("redis://[fe80::1%25eth0]", "redis://[fe80::1%25eth0]"),
    ],
)
def test_schemes_of_redis_and_valkey_are_taken_in_any_case(url: str, normal: str) -> None:
    assert checked_url(url) == normal


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        (b"redis://h", "must be a str, not bytes"),
        ("localhost:6379", "must begin with redis://"),
        ("http://localhost", "must begin with redis://"),
        ("redis:/localhost", "must begin with redis://"),
        ("redis://localhost:port", "must look like redis://"),
        ("redis://localhost:0", "must look like redis://"),
        ("redis://localhost:65536", "must look like redis://"),
        ("redis://[::1", "must look like redis://"),
        ("redis://localhost/first", "must be the number of a database"),
        ("redis://localhost/0/1", "must be the number of a database"),
        ("redis://:pass@", "has a user or password and no host"),
        ("redis://:pass@:6379/0", "has a user or password and no host"),
        ("redis://me:pass@shop..internal:6379/0", "its host must be a name of DNS"),
        ("redis://me:pass@.internal", "its host must be a name of DNS"),
        (f"rediss://me:pass@{64 * 'a'}.internal", "its host must be a name of DNS"),
        (f"redis://me:pass@shop.{62 * 'ä'}", "its host must be a name of DNS"),
        ("redis://me:pass@shop%00.internal", "its host must have no space, line end or control"),
        ("redis://h\n", "space, line end or control character"),
        ("redis://:a b@h", "space, line end or control character"),
        ("redis://:pa/ss@h", "unencoded"),
        ("redis://:12/34@h", "unencoded"),
        ("redis://:12#34@h", "unencoded"),
        ("redis://:12?34@h", "unencoded"),
        ("redis://:12@34@h", "unencoded"),
        ("redis://h#part", "unencoded"),
        ("redis://:100%@h", 'write "%" as %25'),
        ("redis://:%ff@h", 'write "%" as %25'),
        ("unix://run/valkey.sock", "three slashes"),
        ("unix://", "needs the path of a socket"),
        ("unix:///", "needs the path of a socket"),
        ("redis://h?socket_timeuot=1", "option socket_timeuot is not known"),
        ("redis://h?host=other", "option host is not known"),
        ("redis://h?db=", "option db must be a whole number"),
        ("redis://h?protocol=4", "option protocol must be one of 2, 3"),
        ("redis://h?socket_timeout=nan", "option socket_timeout must be seconds, more than 0"),
        ("redis://h?socket_timeout=soon", "option socket_timeout must be seconds, more than 0"),
        ("redis://h?max_connections=0", "option max_connections must be a whole number from 1"),
        ("redis://h?socket_keepalive=on", "option socket_keepalive must be true or false"),
        ("redis://h?ssl_ca_certs=/etc/hosts", "option ssl_ca_certs is not for this scheme"),
        ("unix:///s?socket_keepalive=true", "option socket_keepalive is not for this scheme"),
        ("rediss://h?ssl_cert_reqs=maybe", "option ssl_cert_reqs must be one of none, optional"),
        ("rediss://h?ssl_ca_certs=/no/such", "option ssl_ca_certs names no file"),
        ("rediss://h?ssl_ca_path=/etc/hosts", "option ssl_ca_path names no folder"),
        ("rediss://h?ssl_min_version=1.2", "option ssl_min_version must be one of 771, 772"),
        ("redis://h?db=1&db=1", "option db is given twice"),
        ("redis://h/1?db=2", "option db is given twice"),
        ("redis://:a@h?password=b", "option password is given twice"),
        ("redis://h?password=a+b", 'option password has a "+"'),
        ("redis://h?db", "option db must be a whole number"),
        ("redis://h?&db=1", "option  is not known"),
    ],
)
@pytest.mark.parametrize("client", [FlashSale, AsyncFlashSale])
def test_a_url_that_breaks_a_rule_is_refused_by_its_name(client: Any, url: Any, rule: str) -> None:
    handled = sys.exception()  # some runners call tests while they handle something of their own
    with pytest.raises(ConfigurationError) as raised:
        client.from_url(url)
    assert str(raised.value).startswith("the server's URL: ")
    assert rule in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is handled


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


LATER = set() if redis.__version__ >= "7" else {"ssl_ca_path", "ssl_password"}
"""Where redis-py 6.4 does not know one, the error is that of a setting which does not fit."""


@pytest.mark.parametrize("kind", ["Connection", "SSLConnection", "UnixDomainSocketConnection"])
@pytest.mark.parametrize("module", MODULES)
def test_every_option_that_is_taken_is_one_of_redis_py(module: Any, kind: str) -> None:
    cls = getattr(module, kind)
    made = [base.__init__ for base in cls.__mro__ if "__init__" in vars(base)]
    known = {name for init in made for name in inspect.signature(init).parameters}
    ours = set(ANYWHERE)
    if kind != "UnixDomainSocketConnection":
        ours |= set(TCP)
    if kind == "SSLConnection":
        ours |= set(TLS)
    assert ours - known - LATER == {"max_connections"}  # this one is the pool's


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(user=TEXTS, password=TEXTS, database=st.integers(0, 99))
def test_a_url_with_everything_encoded_means_what_was_meant(
    user: str, password: str, database: int
) -> None:
    url = f"VALKEY://{quote(user, safe='')}:{quote(password, safe='')}@host:7/{database}"
    for module in MODULES:
        read = module.parse_url(checked_url(url))
        assert (read["host"], read["port"], read["db"]) == ("host", 7, database)
        assert (read.get("username", ""), read.get("password", "")) == (user, password)


# A word of our errors might be in a password by chance, so these have letters of none of them.
HOSTILE = st.text(
    st.one_of(
        st.sampled_from("/?#@:&=%+[]\\;,!$'\" \n\t"),
        st.sampled_from("ЖЩЫЭЮЯ" + string.digits),
    ),
    min_size=4,
    max_size=30,
)
PLACES: list[Callable[[str], str]] = [
    "redis://:{}@db.example:6379/0".format,
    "rediss://user:{}@db.example".format,
    "redis://{}@db.example".format,
    "redis://db.example/{}".format,
    "redis://db.example?password={}".format,
    "rediss://db.example?ssl_password={}".format,
    "redis://db.example?socket_timeout=1&password={}".format,
    "redis://db.example:{}".format,
    "unix://:{}@/run/valkey.sock".format,
    "{}".format,
    "red{}is://h".format,
]


@given(password=HOSTILE, place=st.sampled_from(PLACES), both=st.booleans())
def test_no_refusal_shows_four_characters_of_a_password(
    password: str, place: Callable[[str], str], both: bool
) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler(0)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        for client in (FlashSale, AsyncFlashSale) if both else (FlashSale,):
            try:
                shown = repr(client.from_url(place(password)))
            except ConfigurationError as error:
                shown = "".join(repr(e) + str(e.args) + str(e) for e in chain(error))
            shown += "".join(record.getMessage() for record in records)
            pieces = {password[n : n + 4] for n in range(len(password) - 3)}
            assert not [piece for piece in pieces if piece in shown]
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    ("client", "module"), [(FlashSale, redis), (AsyncFlashSale, redis.asyncio)]
)
@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"ssl_ca_cert": "x"}, "setting ssl_ca_cert is not for connections of this kind"),
        ({"password": "ab", "cdef": "gh"}, "name is not shown"),
        ({"host": "shop..internal", "password": "ab"}, "setting host must be a name of DNS"),
        ({"ssl": True, "ssl_min_version": 12}, "12 is not a valid TLSVersion"),
        ({"ssl": True, "ssl_cert_reqs": "maybe"}, "Certificate Requirements Flag"),
    ],
)
def test_a_given_client_with_settings_that_do_not_fit_is_refused_when_it_is_given(
    client: Any, module: Any, settings: dict[str, Any], rule: str
) -> None:
    settings = dict(settings)
    secure = settings.pop("ssl", False)
    kind = module.connection.SSLConnection if secure else module.connection.Connection
    pool = module.ConnectionPool(connection_class=kind, **settings)
    with pytest.raises(ConfigurationError, match=rule) as raised:
        client(module.Redis(connection_pool=pool))
    assert str(raised.value).startswith("client: ")
    assert "cdef" not in "".join(map(repr, chain(raised.value)))
