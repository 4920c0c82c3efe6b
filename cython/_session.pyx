# cython: language_level=3, boundscheck=False, wraparound=False
"""From the loop to the engine: see `_session.pxd` for what is here.

An open connection is held by the million, so it is one object without a buffer: bytes are read into
memory that all connections share, and the engine keeps what it has to. A parser of its own is what
makes that possible; it also answers a good frame in front of a bad one and refuses bad text at its
first bad byte, which a parser that hands over whole frames cannot.
"""

import asyncio
import random
import sys

from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pythread cimport PyThread_get_thread_ident

from moda import _core

cdef moda_api* API = <moda_api*>PyCapsule_GetPointer(_core._C_API, "moda._core._C_API")
if API.version != 2:
    raise ImportError(f"moda._core speaks version {API.version} of the frame interface, moda._session speaks 2")

# Bytes of small frames one connection may have read and handled before the loop has a turn: half a
# millisecond of heartbeats. The loop reads as long as a read fills its buffer; a client that floods
# it would have megabytes handled in one go, and its neighbours would wait.
cdef size_t QUANTUM = 8192
cdef size_t LONGEST = 65536  # and of one long frame
cdef int64_t STOP = -2
# Seconds, drawn for each, that a client in a hurry is not read. Many at once must not come back
# together: what each has sent meanwhile is handled in one go.
cdef tuple HOLD = (1.0, 3.0)


cdef class Scratch:
    """Memory to read into. A loop reads for one connection at a time and hands over what it read."""

    def __cinit__(self):
        self.data = <uint8_t*>PyMem_Malloc(LONGEST)
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.data)


# By thread, because a loop reads without the interpreter's lock. Never taken away: a thread's number
# is used again, and there are as many as there ever were threads with a loop at once.
cdef dict SCRATCHES = {}


cdef Scratch scratch_of_thread():
    cdef unsigned long thread = PyThread_get_thread_ident()
    found = SCRATCHES.get(thread)
    if found is None:
        found = SCRATCHES[thread] = Scratch()
    return <Scratch>found


cdef class Session:
    """A client's connection, the protocol of its transport. Made by a mount, forgotten with the
    connection. The engine writes to the transport by itself.
    """

    def __init__(self, hub, unsigned short mount, unsigned char codec, socket):
        self.hub = hub
        self.socket = socket
        self.conn = 0
        self.mount = mount
        self.codec = codec
        self.wants = 0
        self.given = 0
        self.held = False

    @property
    def connection(self):
        """The hub's number of this connection; 0 before it has begun."""
        return self.conn

    def begin(self, transport, ended):
        """The connection is open: `transport` has this protocol and the handshake's answer."""
        self.scratch = scratch_of_thread()
        self.transport = transport
        self.ended = ended
        # The handshake's answer may still be on its way: then the hub waits for resume_writing.
        held = transport.get_write_buffer_size() != 0
        secure = transport.get_extra_info("ssl_object") is not None
        descriptor = None if secure else transport.get_extra_info("socket").fileno()
        self.conn = self.hub.open(
            self.mount, self.codec, descriptor, transport, self.socket, self.socket.id, held
        )
        self.socket = None

    # -- bytes in

    def get_buffer(self, Py_ssize_t hint):
        # Of a long frame all that fits, and nothing behind it.
        self.given = QUANTUM
        if self.wants > <int64_t>QUANTUM:
            self.given = <size_t>min(self.wants, <int64_t>LONGEST)
        return PyMemoryView_FromMemory(<char*>self.scratch.data, self.given, PyBUF_WRITE)

    def buffer_updated(self, Py_ssize_t count):
        if self.hub is None or self.wants == STOP:
            return
        if <size_t>count == self.given and not self.transport.is_closing():
            # There may be more, and others are to have their turn before.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.resume)
        try:
            self.wants = API.read(<PyObject*>self.hub, self.conn, self.scratch.data, <size_t>count)
        except BaseException as error:
            self.wants = 0
            sys.unraisablehook(_Unraisable(error))
            if self.hub is not None:
                self.hub.close(self.conn, 1011, "internal error")
        if self.wants == STOP and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self):
        """Reads on. Called by the loop, a turn after so much was read that others had to wait."""
        transport = self.transport
        if transport is not None and not (self.held or self.wants == STOP or transport.is_closing()):
            transport.resume_reading()

    def hold(self):
        """Reads no further for a moment, so that TCP slows down a client that asks for too much."""
        if self.held or self.transport is None or self.transport.is_closing():
            return
        self.held = True
        self.transport.pause_reading()
        asyncio.get_running_loop().call_later(random.uniform(*HOLD), self.let_go)

    def let_go(self):
        """Reads on after `hold`."""
        self.held = False
        self.resume()

    def eof_received(self):
        return False  # the transport closes

    # -- bytes out

    def pause_writing(self):
        # The hub knows: it gave the transport the bytes.
        pass

    def resume_writing(self):
        if self.hub is not None and self.conn != 0:
            self.hub.resume(self.conn)

    def connection_lost(self, error):
        hub, self.hub = self.hub, None
        self.transport = None
        ended, self.ended = self.ended, None
        try:
            if hub is not None and self.conn != 0:
                hub.lost(self.conn)
        finally:
            if ended is not None:
                ended()


class _Unraisable:
    """What sys.unraisablehook takes: an engine failure is told like any failure with no caller to raise to."""

    def __init__(self, error):
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = error.__traceback__
        self.err_msg = "moda: a frame could not be handled; its connection closes with 1011"
        self.object = None
