"""The AsyncAPI registry: a document declares channels, and the running gateway obeys it.

    document --load--> Document --Registry--> find, policy, validator, check
                          |
                        Site --> /asyncapi, /asyncapi.yaml, /asyncapi.json

It is read at start: an address becomes a matcher, a payload schema a compiled validator,
``x-moda`` a policy. moda's own channels are declared the same way, in ``moda.asyncapi.yaml`` beside
this file. Nothing here knows a socket or a web framework; the door serves what :class:`Site`
answers.

>>> registry = Registry(own())
>>> found = registry.find("telemetry:metrics")
>>> check(found.route, "phx_join", {"interval_ms": 1}).response["path"]
'/interval_ms'
"""

from __future__ import annotations

from moda.asyncapi.document import load, merge
from moda.asyncapi.fault import DocumentError
from moda.asyncapi.model import Document
from moda.asyncapi.pages.site import Answer, Site
from moda.asyncapi.policy import UNDECLARED, Policy, Rate
from moda.asyncapi.registry import Found, Registry, Route, check, check_topic
from moda.asyncapi.schema import Validator
from moda.asyncapi.servers import Server, own
from moda.asyncapi.verdict import Invalid

__all__ = [
    "UNDECLARED",
    "Answer",
    "Document",
    "DocumentError",
    "Found",
    "Invalid",
    "Policy",
    "Rate",
    "Registry",
    "Route",
    "Server",
    "Site",
    "Validator",
    "check",
    "check_topic",
    "load",
    "merge",
    "own",
]
