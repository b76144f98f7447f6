"""The tests' own clusters and sentinels do what they say: seen by plain clients."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from flashsale.embedded import EmbeddedServer
from support.cluster import PRIMARIES, Cluster, client_for, slot_of
from support.sentinel import Watched


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.start(replicas=1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[RedisCluster]:
    with RedisCluster.from_url(cluster.url) as client:
        yield client


def single(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))


def test_every_primary_owns_a_third_and_has_a_replica(
    cluster: Cluster, client: RedisCluster
) -> None:
    assert len(cluster.nodes) == 2 * PRIMARIES
    for number in range(PRIMARIES):
        node = cluster.nodes[number]
        key = cluster.key_for(node, "third:{}")
        client.set(key, number)
        assert cluster.owner_of(key) is node
        with single(node) as plain:
            assert plain.get(key) == str(number).encode()
        replica = cluster.replica_of(node)
        assert cluster.replica_of(replica) is node
        assert cluster.info(replica, "replication")["role"] == "slave"


def test_a_client_is_made_for_whatever_the_url_names(cluster: Cluster) -> None:
    with client_for(cluster.nodes[4].url) as client:
        assert isinstance(client, RedisCluster)
    with EmbeddedServer.start() as server, client_for(server.url) as client:
        assert isinstance(client, redis.Redis)


def test_a_slot_is_moved_with_its_keys_and_every_node_knows(
    cluster: Cluster, client: RedisCluster
) -> None:
    source, target = cluster.nodes[0], cluster.nodes[1]
    tag = cluster.key_for(source, "moved-{}")
    names = [f"{{{tag}}}:{n}" for n in range(250)]
    client.mset_nonatomic(dict.fromkeys(names, "x"))
    cluster.move_slot(slot_of(tag), target)
    assert cluster.owner_of(tag) is target
    with single(source) as plain, pytest.raises(redis.exceptions.MovedError):
        plain.get(names[0])
    with single(target) as plain:
        assert all(plain.get(name) == b"x" for name in names)


def test_a_move_left_half_done_redirects_key_by_key(cluster: Cluster) -> None:
    source, target = cluster.nodes[1], cluster.nodes[2]
    tag = cluster.key_for(source, "half-{}")
    names = [f"{{{tag}}}:{name}" for name in ("gone", "there")]
    with single(source) as plain:
        plain.mset(dict.fromkeys(names, "x"))
        move = cluster.move(slot_of(tag), target)
        move.keys(names[0])
        with pytest.raises(redis.exceptions.AskError):
            plain.get(names[0])
        assert plain.get(names[1]) == b"x"
        with pytest.raises(redis.exceptions.TryAgainError):
            plain.mget(names)
        move.keys()
        with pytest.raises(redis.exceptions.AskError):
            plain.mget(names)
        move.finish()
        with pytest.raises(redis.exceptions.MovedError):
            plain.mget(names)


def test_one_node_forgets_its_scripts(cluster: Cluster) -> None:
    with single(cluster.nodes[0]) as first, single(cluster.nodes[1]) as second:
        digest = first.script_load("return 1")
        assert second.script_load("return 1") == digest
        cluster.flush_scripts(cluster.nodes[0])
        assert first.script_exists(digest) == [False]
        assert second.script_exists(digest) == [True]


def test_a_replica_takes_over_everything_its_primary_had_acknowledged(
    cluster: Cluster, client: RedisCluster
) -> None:
    lost = cluster.nodes[2]
    key = cluster.key_for(lost, "kept:{}")
    client.set(key, "x")
    with cluster.killed(lost, in_sync=True):
        heir = cluster.wait_for_failover(lost)
        assert cluster.owner_of(key) is heir is cluster.nodes[5]
        with single(heir) as plain:
            assert plain.get(key) == b"x"
    assert cluster.info(lost, "replication")["role"] == "slave"
    cluster.promote(lost)
    assert cluster.owner_of(key) is lost


def test_nothing_is_left_of_a_cluster_whose_test_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "wait_until_ok", lambda self: None)
    with pytest.raises(ZeroDivisionError), Cluster.start() as cluster:
        processes = [node.pid for node in cluster.nodes]
        folders = [node.directory for node in cluster.nodes]
        raise ZeroDivisionError
    assert not any(folder.exists() for folder in folders)
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_sentinel_names_the_primary_and_a_replica_follows_it() -> None:
    with Watched.start() as servers:
        first, second = servers.servers
        assert servers.primary is first
        assert servers.replica is second
        assert [servers.role(server) for server in servers.servers] == ["master", "slave"]
        with Sentinel(servers.addresses).master_for(servers.name) as client, servers.no_writes():
            assert client.get("key") is None
        folders = [server.directory for server in (*servers.servers, *servers.sentinels)]
    assert not any(folder.exists() for folder in folders)
