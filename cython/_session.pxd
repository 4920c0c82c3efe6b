# cython: language_level=3
"""The table of contents of `_session`: one listener per connection, between picows and the engine.

Bytes in: picows parses a frame in C and calls `on_ws_frame`, which hands pointer and length to
`moda._core` through the functions below. Nothing is decided here.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from picows.picows cimport MemoryBuffer, WSFrame, WSListener, WSTransport

# Must match `struct Api` in rust/python/src/capi.rs.
ctypedef int (*frame_function)(
    PyObject* hub, uint64_t conn, uint8_t op, int fin, int rsv, const uint8_t* payload, size_t length
) except -1

cdef struct moda_api:
    int version
    frame_function frame

cdef class Session(WSListener):
    cdef:
        object hub              # moda._core.Hub, None once the connection is lost
        object socket           # what the connect hook made of this client
        uint64_t conn           # the hub's name for this connection
        unsigned short mount
        bint v1

    # picows calls these
    cpdef on_ws_connected(self, WSTransport transport)
    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame)
    cpdef on_ws_disconnected(self, WSTransport transport)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
