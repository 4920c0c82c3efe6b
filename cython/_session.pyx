# cython: language_level=3, boundscheck=False, wraparound=False
"""From picows to the engine: see `_session.pxd` for what is here.

An open connection is held by the million, so what picows keeps for features moda does not use is
given back when the handshake is over (measured: 8.2 KB to 4.5 KB per connection): the parsed
request and response, the write buffer (every write of picows is a synchronous copy, so one buffer
serves all connections) and two futures nobody waits for.
"""

import asyncio
import sys

from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pycapsule cimport PyCapsule_GetPointer
from picows.picows cimport WSParserState
from picows.picows import WSProtocol

from moda import _core

cdef moda_api* API = <moda_api*>PyCapsule_GetPointer(_core._C_API, "moda._core._C_API")
if API.version != 1:
    raise ImportError(f"moda._core speaks version {API.version} of the frame interface, moda._session speaks 1")

cdef MemoryBuffer SHARED_WRITE_BUFFER = MemoryBuffer(16384)

# Bytes of small frames one connection may have read and handled before the loop has a turn: half a
# millisecond of heartbeats. picows reads as much as its buffer holds and doubles the buffer whenever
# a read fills it; a client that floods it had 1.75 MB handled in one go, and its neighbours waited
# for half a second each time.
cdef Py_ssize_t QUANTUM = 8192
cdef Py_ssize_t LARGE = 65536
cdef double SOON = 1.0  # seconds a grown buffer is kept for the next message of its kind
cdef Py_ssize_t SLACK = 256  # picows keeps this much behind the buffer's size for its vector code
cdef bint LAYOUT_KNOWN = WSProtocol.__basicsize__ == sizeof(picows_protocol)
layout_known = bool(LAYOUT_KNOWN)
cdef object BUFFER_UPDATED = WSProtocol.buffer_updated
cdef object DONE = None
cdef object DONE_LOOP = None


cdef object done_future():
    """One finished future per loop in place of one per connection; picows only asks whether it is done."""
    global DONE, DONE_LOOP
    loop = asyncio.get_running_loop()
    if DONE_LOOP is not loop:
        DONE_LOOP = loop
        DONE = loop.create_future()
        DONE.set_result(None)
    return DONE


cdef class Intake:
    """The loop's side of a picows protocol: how much is read at once, and what is kept for it.

    Small frames get the buffer as it is, less the last tenth of it: so picows never grows it for
    them, and what a reader leaves unread waits in the kernel, where TCP slows its sender down. After
    `QUANTUM` bytes with more to come the others have their turn. A frame that needs more room has
    all of it, to its end and no further.
    """

    def __init__(self, protocol, transport):
        if type(protocol) is not WSProtocol or not LAYOUT_KNOWN:
            raise TypeError(f"an Intake takes a WSProtocol of the picows it was built for, got {type(protocol).__name__}")
        self.protocol = protocol
        self.transport = transport
        # The type is exactly the one whose size was compared, see the .pxd. The field is an object
        # of the protocol's for its whole life.
        held = <object>self.fields().read_buffer
        if not isinstance(held, MemoryBuffer):
            raise TypeError("picows' read buffer is not where this module was built to find it")
        self.buffer = <MemoryBuffer>held
        self.first = self.buffer.capacity
        self.given = 0
        self.taken = 0
        self.shrinking = False

    cdef picows_protocol* fields(self):
        return <picows_protocol*><PyObject*>self.protocol

    @property
    def capacity(self):
        """Bytes of memory the read buffer takes now."""
        return self.buffer.capacity

    def is_buffered_protocol(self):
        """How aiofastnet asks."""
        return True

    def get_buffer(self, Py_ssize_t hint):
        cdef picows_protocol* fields = self.fields()
        cdef Py_ssize_t size = self.buffer.size
        cdef Py_ssize_t begin = fields.new_data_start_pos
        cdef Py_ssize_t end = size * 9 // 10  # past this picows doubles the buffer, as it does when
        if end >= size - SLACK:               # no more than SLACK is left
            end = size - SLACK - 1
        if end > QUANTUM:
            end = QUANTUM
        if fields.state == WSParserState.READ_PAYLOAD:
            if fields.payload_length > end - fields.payload_start_pos:
                end = fields.payload_start_pos + fields.payload_length
        if end > size or end <= begin:
            end = size
        self.given = end - begin
        return PyMemoryView_FromMemory(self.buffer.data + begin, self.given, PyBUF_WRITE)

    def buffer_updated(self, Py_ssize_t count):
        if count < self.given:
            self.taken = 0
        else:
            self.taken += count
            if self.taken > QUANTUM - self.first:  # another read might go past it
                self.taken = 0
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.resume)
        BUFFER_UPDATED(self.protocol, count)
        if self.buffer.capacity > self.first and not self.shrinking:
            # Not now: it may have been grown for a frame that is still to come.
            self.shrinking = True
            self.give_back_later()

    def resume(self):
        """Reads on. Called by the loop, a turn after so much was read that others had to wait."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def give_back(self):
        """Shrinks the read buffer to its first size, or asks again later while a long frame is in it."""
        self.shrinking = False
        cdef picows_protocol* fields = self.fields()
        if self.buffer.capacity == self.first or self.transport.is_closing():
            return
        # What is left of a frame begins where the buffer does; it must fit before picows' slack.
        if fields.curr_frame_start_pos != 0 or fields.new_data_start_pos >= self.first - 2 * SLACK:
            self.shrinking = True
            asyncio.get_running_loop().call_later(SOON, self.give_back)
            return
        cdef char* data = <char*>PyMem_Realloc(self.buffer.data, self.first)
        if data == NULL:
            return
        self.buffer.data = data
        self.buffer.capacity = self.first
        self.buffer.size = self.first - SLACK

    cdef object give_back_later(self):
        loop = asyncio.get_running_loop()
        if self.buffer.capacity > LARGE and self.fields().new_data_start_pos == 0:
            loop.call_soon(self.give_back)
        else:
            loop.call_later(SOON, self.give_back)

    def eof_received(self):
        return False

    def pause_writing(self):
        self.protocol.pause_writing()

    def resume_writing(self):
        self.protocol.resume_writing()

    def connection_lost(self, error):
        self.protocol.connection_lost(error)


cdef class Session(WSListener):
    """A client's connection. Made by a mount, given to picows, forgotten with the connection."""

    def __init__(self, hub, unsigned short mount, bint v1, socket):
        self.hub = hub
        self.socket = socket
        self.conn = 0
        self.mount = mount
        self.v1 = v1

    @property
    def connection(self):
        """The hub's number of this connection; 0 before the handshake is over."""
        return self.conn

    cpdef on_ws_connected(self, WSTransport transport):
        transport.request = None
        transport.response = None
        transport.listener_proxy = None
        transport._write_buffer = SHARED_WRITE_BUFFER
        transport.disconnected_future = done_future()
        under = transport.underlying_transport
        # The handshake's answer may still be on its way: then the hub waits for resume_writing.
        held = under.get_write_buffer_size() != 0
        descriptor = None if transport.is_secure else transport._socket
        self.conn = self.hub.open(
            self.mount, self.v1, descriptor, under, self.socket, self.socket.id, held,
            transport._socket if transport.is_secure else None,
        )
        self.socket = None

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.hub is None:
            return
        try:
            API.frame(
                <PyObject*>self.hub,
                self.conn,
                <uint8_t>frame.msg_type,
                frame.fin,
                frame.rsv1 or frame.rsv2 or frame.rsv3,
                <const uint8_t*>frame.payload_ptr,
                <size_t>frame.payload_size,
            )
        except BaseException as error:
            sys.unraisablehook(_Unraisable(error))
            self.hub.close(self.conn, 1011, "internal error")

    def failed(self, code):
        """picows met bytes that are no frame and is about to close with `code`: the hub falls silent first."""
        if self.hub is not None:
            self.hub.unparsed(self.conn, code)

    cpdef on_ws_disconnected(self, WSTransport transport):
        hub, self.hub = self.hub, None
        if hub is not None:
            hub.lost(self.conn)

    cpdef pause_writing(self):
        # The hub knows: it gave the transport the bytes.
        pass

    cpdef resume_writing(self):
        if self.hub is not None:
            self.hub.resume(self.conn)


class _Unraisable:
    """What sys.unraisablehook takes: an engine failure is told like any failure with no caller to raise to."""

    def __init__(self, error):
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = error.__traceback__
        self.err_msg = "moda: a frame could not be handled; its connection closes with 1011"
        self.object = None
