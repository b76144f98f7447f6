"""The commands, put together."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from flashsale.cli import cueing, looking, queueing, rehearsing, steering, verifying
from flashsale.cli.reporting import print_line

_REHEARSE, _WATCH, _STEER = "Rehearse", "Watch and check", "Steer"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"flashsale {version('flashsale')}")
        raise typer.Exit


@app.callback()
def flashsale(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Rehearse, watch and steer flash sales.

    Exit codes: 0 done; 1 refused, or a check that found something; 2 an error.
    """


queue = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Open, show and steer a sale's waiting room.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(queue, name="queue", rich_help_panel=_STEER)

cue = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Freeze a sale's cue, void it, and say where its stock goes.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cue, name="cue", rich_help_panel=_STEER)


def _add(
    command: Callable[..., None],
    panel: str,
    *examples: str,
    name: str = "",
    to: typer.Typer = app,
) -> None:
    """Register a command under its own name; its help is its docstring and the examples."""
    paragraphs = [" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n")]
    paragraphs.append("\n".join(f"$ flashsale {example}" for example in examples))
    text = "\n\n".join(paragraphs)
    to.command(name or command.__name__, rich_help_panel=panel, help=text)(command)


_add(
    rehearsing.rehearse,
    _REHEARSE,
    "rehearse",
    "rehearse hot_sku --seconds 5 --scale 1/100",
    "rehearse --sale 1111.toml --curve arrivals.csv --url redis://rehearsal-host",
)
_add(looking.watch, _WATCH, "watch 1111", "watch 1111 --json | jq .rates")
_add(looking.snapshot, _WATCH, "snapshot 1111", "snapshot 1111 --json | jq .skus")
_add(
    looking.find,
    _WATCH,
    "find 1111 buyer-42",
    "find 1111 buyer-42 order-77",
    "find 1111__buyer-42__order-77",
)
_add(looking.audit, _WATCH, "audit 1111", "audit 1111 --json")
_add(cueing.cues, _WATCH, "cues 1111", "cues 1111 --json")
_add(cueing.record, _WATCH, "record 1111 lipstick --out RECORD.json")
_add(
    verifying.verify_record,
    _WATCH,
    "verify RECORD.json",
    "verify RECORD.json --buyer buyer-42 --receipt RECEIPT",
    "verify RECORD.json --json | jq .checks",
    name="verify",
)
_add(steering.open_sale, _STEER, "open 1111.toml", name="open")
_add(steering.pause, _STEER, "pause 1111")
_add(steering.resume, _STEER, "resume 1111")
_add(steering.restock, _STEER, "restock 1111 lipstick=+500 mug=-20 --op-id truck-3")
_add(steering.repair, _STEER, "repair 1111", "repair 1111 --json")
_add(steering.end, _STEER, "end 1111")
_add(steering.purge, _STEER, "purge 1111")
_add(cueing.freeze, _STEER, "cue freeze 1111 lipstick", to=cue)
_add(cueing.void, _STEER, "cue void 1111 lipstick 'the stream broke off'", to=cue)
_add(cueing.give_back, _STEER, "cue give-back 1111 lipstick", name="give-back", to=cue)
_add(
    queueing.open_room,
    _STEER,
    "queue open 1111 room.toml --key main=/run/secrets/flashsale",
    name="open",
    to=queue,
)
_add(queueing.show, _WATCH, "queue show 1111", "queue show 1111 --json | jq .waiting", to=queue)
_add(queueing.pause, _STEER, "queue pause 1111", to=queue)
_add(queueing.resume, _STEER, "queue resume 1111", to=queue)
_add(queueing.rate, _STEER, "queue rate 1111 25", to=queue)
