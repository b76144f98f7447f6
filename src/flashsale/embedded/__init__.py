"""A local Valkey server for development, demonstrations and tests.

It lives in a folder of its own, listens on 127.0.0.1 alone and ends with the process that
started it, however that process ends. It is not a way to run a service: every process that
starts one has stock of its own.
"""

from flashsale.embedded.ingredients import free_port
from flashsale.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "free_port"]
