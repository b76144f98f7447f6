from __future__ import annotations

import builtins
import io
import json
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from flashsale import ConfigurationError, HoldState, Outcome, OutcomeUnknown
from flashsale.rehearsal import Progress, Report, live_progress, render, show
from flashsale.rehearsal.facts import NEVER, Facts, Verb
from flashsale.rehearsal.measures import percentiles, require_extra
from flashsale.rehearsal.render import ASCII_BLOCKS, BLOCKS, bars, progress_line
from flashsale.rehearsal.report import Server, Setup, build_report
from support.surges import TTL_MS, HandMade

SETUP = Setup(
    scenario="double11",
    about="about",
    curve="published",
    sale="double11.1",
    scale="rate 1/50, time ×30",
    rate_divisor=50,
    time_factor=30,
    seconds=1.0,
    peak_per_s=11_660,
    full_peak_per_s=583_000,
    seed=1,
    durability="memory",
    cores=2,
    server=Server(name="Valkey", version="9.1.2", embedded=True, address="127.0.0.1:1", cpu=0.5),
    crowd_sources={"pay": "published"},
    assumed={"cancel": "0.1"},
)


def right_run(count: int = 100) -> HandMade:
    run = HandMade({"red": count + 1, "blue": 1})
    for number in range(count):
        order = run.hold(f"b{number}")
        if number % 2:
            run.pay(order)
    return run


def report_of(run: HandMade, facts: Facts | None = None) -> Report:
    return build_report(
        setup=SETUP,
        plan=run.plan,
        facts=facts or run.facts,
        truth=run.truth(),
        stock=list(run.server.snapshot.skus.values()),
        total_s=2.0,
        notes=["a note"],
    )


def test_a_right_run_passes_with_exit_code_0() -> None:
    report = report_of(right_run())
    assert (report.passed, report.exit_code, report.void) == (True, 0, [])
    assert (report.offered, report.completed, report.dropped, report.unanswered) == (100, 100, 0, 0)
    assert report.outcomes == {"held": 100}
    assert report.later == {"confirm": {"confirmed": 50}}
    assert report.decisions_per_s == 150
    assert report.latency_ms.p50 == pytest.approx(3, abs=0.01)
    assert report.schedule_lag_ms.max == pytest.approx(1, abs=0.01)


def oversell(run: HandMade) -> None:
    run.hold("one-more", red=2)


def lose(run: HandMade) -> None:
    del run.records["b7"]
    run.counters["red"] = {"held": 50, "available": 1}


def break_conservation(run: HandMade) -> None:
    run.counters["red"] = {"available": 2}


def answer_twice(run: HandMade) -> None:
    run.answer(3, run.held(3, 0))


@pytest.mark.parametrize("falsify", [oversell, lose, break_conservation, answer_twice])
def test_falsified_facts_fail_with_exit_code_1(falsify: Any) -> None:
    run = right_run()
    falsify(run)
    report = report_of(run)
    assert (report.passed, report.exit_code) == (False, 1)
    assert report.truth.problems


def test_which_figure_says_what_is_wrong() -> None:
    found = {}
    for falsify in (oversell, lose, break_conservation):
        run = right_run()
        falsify(run)
        report = report_of(run)
        found[falsify.__name__] = (report.oversold, report.lost, report.conservation_ok)
    assert found["oversell"][0] == 1
    assert found["lose"][:2] == (0, 1)
    assert found["break_conservation"] == (0, 0, False)


def late(facts: Facts) -> None:
    facts.picked_s = array("d", [at + 0.011 for at in facts.picked_s])


def drop(facts: Facts) -> None:
    facts.dropped = 1


def hog(facts: Facts) -> None:
    facts.generator_cpu = 0.91


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (late, "schedule lag p99 12.0 ms is above 10 ms"),
        (drop, "1 attempts were dropped"),
        (hog, "used 91% of its core, above 90%"),
    ],
)
def test_load_that_was_not_sent_as_planned_is_void_with_exit_code_3(
    spoil: Any, reason: str
) -> None:
    run = right_run()
    facts = run.facts
    spoil(facts)
    report = report_of(run, facts)
    assert (report.passed, report.exit_code) == (False, 3)
    assert any(reason in text for text in report.void)


def test_a_run_on_the_bounds_is_not_void() -> None:
    run = right_run()
    facts = run.facts
    facts.picked_s = array("d", [n / 1000 + 0.00999 for n in range(100)])
    facts.generator_cpu = 0.9
    assert report_of(run, facts).exit_code == 0


def test_a_void_run_that_oversold_has_failed() -> None:
    run = right_run()
    oversell(run)
    facts = run.facts
    facts.dropped = 3
    assert report_of(run, facts).exit_code == 1


def test_attempts_without_an_answer_are_counted_and_too_many_make_the_run_void() -> None:
    run = right_run()
    order = run.order("unsure", "o", {"red": 1})
    run.answer(order, OutcomeUnknown("lost"))
    report = report_of(run)
    assert (report.unanswered, report.errors, report.void) == (1, {"OutcomeUnknown": 1}, [])
    run.answer(order, OutcomeUnknown("lost"))
    assert "2 of 102 attempts got no answer" in report_of(run).void[0]


def test_dropped_attempts_are_neither_completed_nor_unanswered() -> None:
    run = right_run()
    run.answer(run.order("dropped", "o", {"red": 1}), None)
    report = report_of(run)
    assert (report.offered, report.completed, report.dropped, report.unanswered) == (101, 100, 1, 0)
    assert report.exit_code == 3


def test_a_run_without_attempts_is_void() -> None:
    assert report_of(HandMade({"red": 1})).void == ["no attempt fell into the run"]


def test_json_is_one_object_with_the_promised_members() -> None:
    told = json.loads(report_of(right_run()).to_json())
    promised = "scenario offered completed dropped decisions_per_s outcomes oversold lost"
    promised += " conservation_ok latency_ms server durability void scale seconds batch"
    assert set(promised.split()) <= set(told)
    assert told["scenario"] == "double11"
    assert told["server"] == "Valkey 9.1.2"
    assert told["scale"] == "rate 1/50, time ×30"
    assert told["latency_ms"].keys() == {"p50", "p90", "p99", "p99_9", "p99_99", "max"}
    assert told["batch"] == {"median": 1, "max": 1}
    assert told["setup"]["crowd_sources"] == {"pay": "published"}


@given(st.lists(st.floats(0.001, 100_000), min_size=1, max_size=300))
def test_percentiles_are_right_to_three_figures(values: list[float]) -> None:
    told = percentiles(values)
    ordered = sorted(values)
    for share, value in ((0.5, told.p50), (0.99, told.p99), (1.0, told.max)):
        at = max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)
        assert value == pytest.approx(ordered[at], rel=0.002, abs=0.002)


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentiles([]).p99 == 0


def test_the_picture_counts_every_attempt_and_decision_in_its_part() -> None:
    run = right_run()
    facts = run.facts
    facts.answered_s[0] = NEVER
    course = report_of(run, facts).picture
    assert sum(course.offered) * course.bucket_s == pytest.approx(100)
    assert sum(course.answered) * course.bucket_s == pytest.approx(99)
    assert course.offered[0] == pytest.approx(20 / course.bucket_s)
    assert course.later[5] == pytest.approx(50 / course.bucket_s)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.integers(1, 4))
def test_bars_are_as_high_as_their_values(values: list[float], rows: int) -> None:
    drawn = bars(values, 100.0, rows)
    assert [len(line) for line in drawn] == [len(values)] * rows
    for column, value in enumerate(values):
        height = sum(BLOCKS.index(line[column]) for line in drawn)
        assert height == round(value / 100 * rows * 8)


def text_of(report: Report, *, width: int = 80, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(report, Console(file=file, width=width))
    file.seek(0)
    return file.read()


def test_the_table_says_everything_in_eighty_columns() -> None:
    run = right_run()
    late_one = run.hold("late", -900)
    run.keep(late_one, HoldState.EXPIRED, -900 + TTL_MS)
    run.step(late_one, Verb.CONFIRM, Outcome.EXPIRED, 450)
    shown = text_of(report_of(run))
    assert max(map(len, shown.splitlines())) <= 80
    for said in (
        "Rehearsal of double11: passed",
        "rate 1/50, time ×30",
        "Valkey 9.1.2",
        "durability memory",
        "2 cores",
        "offered",
        "answered",
        "schedule lag p99",
        "latency p50",
        "p99.9",
        "hold: held",
        "confirm: expired",
        "red",
        "0 units oversold, 0 acknowledged orders lost, conservation holds",
        "Note: a note",
        "batch, median/max",
    ):
        assert said in shown, said


def test_the_table_of_a_failed_or_void_run_says_why() -> None:
    run = right_run()
    oversell(run)
    facts = run.facts
    facts.dropped = 3
    shown = text_of(report_of(run, facts))
    assert "FAILED" in shown
    assert "sku 'red': 1 units oversold" in shown
    assert "Void: 3 attempts were dropped" in shown
    assert "VOID: this run does not count" in text_of(report_of(HandMade({"red": 1})))


def test_a_console_without_unicode_gets_plain_characters() -> None:
    shown = text_of(report_of(right_run()), encoding="latin-1")
    assert not set(BLOCKS[1:]) & set(shown)
    assert set(ASCII_BLOCKS[1:]) & set(shown)


def test_progress_is_one_short_line() -> None:
    surge = Progress(
        phase="surge", elapsed_s=4, seconds=10, offered=50_000, total=100_000, completed=49_000
    )
    assert progress_line(surge).startswith(" 4.0 s [=====     ]  offered 50,000  answered 49,000")
    assert len(progress_line(surge)) <= 80
    checking = Progress(phase="check", elapsed_s=0, seconds=10)
    assert progress_line(checking) == "checking the books ..."


def test_progress_is_silent_where_standard_error_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with live_progress() as on_progress:
        assert on_progress is None
    with live_progress(wanted=False) as on_progress:
        assert on_progress is None
    assert capsys.readouterr().err == ""


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with live_progress() as on_progress:
        assert on_progress is not None
        on_progress(Progress(phase="surge", elapsed_s=1, seconds=9, offered=5, total=9))
    assert "offered 5" in terminal.getvalue()


@pytest.mark.parametrize("missing", ["hdrh", "rich"])
def test_a_missing_extra_says_how_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(right_run())
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    uses: dict[str, Callable[[], object]] = {
        "rich": partial(render, report),
        "hdrh": require_extra,
    }
    with pytest.raises(ConfigurationError, match=r"pip install 'flashsale\[cli\]'"):
        uses[missing]()
