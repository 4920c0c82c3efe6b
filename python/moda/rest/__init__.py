"""The HTTP API for other services: publish, look at topics, read what they keep, disconnect.

Whoever serves it adds :func:`routes` to plain HTTP and says who may call (``authorize``). What
clients send and get is in ``model``, ``batch`` reads a request to publish, ``once`` remembers
idempotency keys, ``publish`` and ``topics`` do the work, ``routes`` is the face.
"""

from moda.rest.model import Problem
from moda.rest.publish import Publisher
from moda.rest.routes import Authorize, routes
from moda.rest.topics import Topics

__all__ = ["Authorize", "Problem", "Publisher", "Topics", "routes"]
