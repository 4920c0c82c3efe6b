# cython: language_level=3
"""The table of contents of `_session`: an open WebSocket between the event loop and the engine.

Bytes in: the loop asks `Session` for room, reads into a buffer that all connections of a thread
share, and says how much came; pointer and length go to `moda._core` through the function below.
Nothing is decided here, and nothing is kept: what a connection has begun to say is the engine's.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

# Must match `struct Api` in rust/python/src/capi.rs.
ctypedef long long (*read_function)(PyObject* hub, uint64_t conn, uint8_t* data, size_t length) except -1

cdef struct moda_api:
    int version
    read_function read

cdef class Scratch:
    cdef:
        uint8_t* data

cdef class Session:
    cdef:
        object hub              # moda._core.Hub, None once the connection is lost
        object transport        # the loop's, from `begin` to the end
        object ended            # who else is to hear of the end
        object socket           # what the connect hook made of this client
        Scratch scratch
        uint64_t conn           # the hub's name for this connection, 0 before `begin`
        int64_t wants           # bytes to come of the frame begun; STOP when nothing is read any more
        size_t given            # bytes the loop was given room for
        unsigned short mount
        unsigned char codec
        bint held               # not read for a moment
