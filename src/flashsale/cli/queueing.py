"""The commands about a sale's waiting room: queue open, show, pause, resume, rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from flashsale import forecast, waiting_room
from flashsale.cli import words
from flashsale.cli.options import Debug, Json, SaleId, Url
from flashsale.cli.reporting import Report, operating
from flashsale.errors import FlashSaleError, InvalidRequest, Rejected
from flashsale.keyring import SECRET_MAX, Key, Keyring
from flashsale.models import Outcome
from flashsale.rooms import Eta, RoomState, RoomView
from flashsale.sync import FlashSale


class QueueFrame(msgspec.Struct, frozen=True):
    """An operator's numbers of a waiting room.

    waiting: those who have a place that was not called yet. called: places that had a turn, or have
    one, without those passed over because they had been left; outstanding: turns that run,
    and bound: how many may. rate_per_s: as it is set, measured_per_s: as it was measured. eta_last:
    when the last in the queue is called, if it goes on like this.
    """

    state: RoomState
    opens_at_ms: int | None
    waiting: int
    called: int
    outstanding: int
    bound: int
    arrived: int
    no_shows: int
    left: int
    conversion: float
    rate_per_s: float
    measured_per_s: float | None
    eta_last: Eta | None


def queue_frame(view: RoomView) -> QueueFrame:
    """The numbers of a view."""
    return QueueFrame(
        state=view.state,
        opens_at_ms=view.room.opens_at_ms if view.present is None else None,
        waiting=max(0, view.waiting),
        called=view.serving - view.passed,
        outstanding=view.outstanding,
        bound=view.bound,
        arrived=view.arrived,
        no_shows=view.no_shows,
        left=view.left,
        conversion=round(view.conversion, 4),
        rate_per_s=view.rate_per_s,
        measured_per_s=None if view.measured_per_s is None else round(view.measured_per_s, 2),
        eta_last=forecast.eta_of(view, view.joined - view.serving - 1) if view.waiting else None,
    )


def queue_of(shop: FlashSale, sale: str) -> QueueFrame | None:
    """The waiting room of a sale, if it has one. One call, which moves the room on."""
    try:
        return queue_frame(shop.perform(waiting_room.glance(sale)).view)
    except Rejected as error:
        if error.outcome is Outcome.ROOM_UNKNOWN:
            return None
        raise


def queue_line(frame: QueueFrame, now_ms: int) -> RenderableType:
    """A line for people, which wraps on a narrow screen."""
    state = frame.state.value
    if frame.opens_at_ms is not None:
        state = f"opens in {words.duration(max(0, frame.opens_at_ms - now_ms))}"
    rate = f"{frame.rate_per_s:g}/s"
    if frame.measured_per_s is not None:
        rate = f"{frame.measured_per_s:,.1f}/s of {rate}"
    last = "–" if frame.eta_last is None else words.duration(frame.eta_last.expected_ms)
    parts = [
        Text("queue", "bold"),
        Text(state, "bold yellow" if frame.state is RoomState.PAUSED else "bold"),
        Text(f"{frame.waiting:,} waiting"),
        Text(f"{frame.called:,} called"),
        Text(f"{frame.outstanding:,}/{frame.bound:,} outstanding"),
        Text(f"{frame.arrived:,} arrived"),
        Text(f"{frame.no_shows:,} no-shows"),
        Text(f"conversion {frame.conversion:.2f}"),
        Text(f"rate {rate}"),
        Text(f"last called in {last}"),
    ]
    return Text("  ").join(parts)


def open_room(
    sale: SaleId,
    file: Annotated[
        Path, typer.Argument(metavar="ROOM.toml", help="The waiting room.", show_default=False)
    ],
    key: Annotated[
        str,
        typer.Option(
            "--key", metavar="ID=FILE", help="The newest signing key of the services: id, secret."
        ),
    ],
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Open a sale's waiting room from a file.

    The file has the fields of `WaitingRoom`. The lot is committed to with the key, so it must be
    the services' own. The same definition again changes nothing; another one is refused.
    """
    from flashsale.rehearsal.files import read_room

    with operating(url, json=json, debug=debug) as (report, shop):
        room, own = read_room(file), read_key(key)
        shop.perform(waiting_room.open_room(sale, room, own))
        seen = shop.perform(waiting_room.look(sale, Keyring([own])))
        _give(report, seen.view)


def show(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Show a waiting room: who waits, who was called, how fast it goes."""
    with operating(url, json=json, debug=debug) as (report, shop):
        _give(report, shop.perform(waiting_room.glance(sale)).view)


def pause(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Call nobody until resumed. Turns that have begun go on."""
    with operating(url, json=json, debug=debug) as (report, shop):
        _steer(report, shop, sale, RoomState.PAUSED, None)


def resume(sale: SaleId, url: Url = None, json: Json = False, debug: Debug = False) -> None:
    """Call places again."""
    with operating(url, json=json, debug=debug) as (report, shop):
        _steer(report, shop, sale, RoomState.RUNNING, None)


def rate(
    sale: SaleId,
    per_s: Annotated[
        float, typer.Argument(metavar="N", help="Places called a second.", show_default=False)
    ],
    url: Url = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Call so many places a second from now on, at most: stock still bounds it."""
    with operating(url, json=json, debug=debug) as (report, shop):
        _steer(report, shop, sale, None, per_s)


def read_key(text: str) -> Key:
    """Read ``main=/run/secrets/flashsale``: the id, and the file that has the secret's bytes."""
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        raise InvalidRequest("--key", "must be ID=FILE, such as main=/run/secrets/flashsale")
    try:
        with open(path, "rb") as file:
            return Key(name, file.read(SECRET_MAX + 1))
    except OSError as error:
        raise InvalidRequest("--key", f"{path} cannot be read: {error.strerror}") from None
    except FlashSaleError as error:
        raise InvalidRequest("--key", str(error)) from None


def _steer(
    report: Report, shop: FlashSale, sale: str, state: RoomState | None, per_s: float | None
) -> None:
    _give(report, shop.perform(waiting_room.steer(sale, Keyring([]), state, per_s)).view)


def _give(report: Report, view: RoomView) -> None:
    frame = queue_frame(view)
    value = {"sale": view.sale, "at_ms": view.at_ms, **msgspec.to_builtins(frame)}
    value["room"] = msgspec.to_builtins(view.room)
    report.give(value, Text(view.sale, "bold"), queue_line(frame, view.at_ms))
