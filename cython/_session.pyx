# cython: language_level=3, boundscheck=False, wraparound=False
"""From picows to the engine: see `_session.pxd` for what is here.

An open connection is held by the million, so picows' part of it is made without what moda does not
use (measured: 8.2 KB to 4.5 KB per connection): a parsed request and response, a write buffer of its
own (every write of picows is a synchronous copy, so one buffer serves all connections) and two
futures nobody waits for.
"""

import asyncio
import sys

from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.pythread cimport PyThread_get_thread_ident
from picows.picows cimport WSParserState
from picows import WSCloseCode
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
cdef Py_ssize_t READ_BUFFER = 2048  # first size of picows' read buffer, its least: an idle connection keeps it
cdef double AFTER_ERROR = 0.01  # seconds picows leaves between its CLOSE and the end
if WSProtocol.__basicsize__ != sizeof(picows_protocol):
    raise ImportError(
        "moda._session was built for picows 2.3.1 and found another, whose connections have another "
        "shape: pip install picows==2.3.1"
    )
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


cdef void put(PyObject** field, object value):
    """Sets a field of picows' to what it owns from now on."""
    cdef PyObject* before = field[0]
    Py_INCREF(value)
    field[0] = <PyObject*>value
    Py_XDECREF(before)


cdef class Intake:
    """The loop's side of a picows protocol: how much is read at once, and what is kept for it.

    Small frames get the buffer as it is, less the last tenth of it: so picows never grows it for
    them, and what a reader leaves unread waits in the kernel, where TCP slows its sender down. After
    `QUANTUM` bytes with more to come the others have their turn. A frame that needs more room has
    all of it, to its end and no further.
    """

    def __init__(self, protocol, transport):
        if type(protocol) is not WSProtocol:
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

    @staticmethod
    def upgraded(line, WSListener listener, Py_ssize_t max_frame_size):
        """The server's side of a WebSocket whose handshake is over but for the answer. See `begin`.

        Made as picows makes one, without what moda does not use: its own handshake (a second reading
        and judging of the head, a third of a joining client's time), pings, pongs, five questions
        about the socket, two futures, a write buffer for each connection.
        """
        loop, transport = asyncio.get_running_loop(), line.transport
        cdef WSTransport under = WSTransport.__new__(WSTransport)
        under._thread_id = PyThread_get_thread_ident()
        under._loop = loop
        under._logger = line
        under._tr_get_write_buffer_size = transport.get_write_buffer_size
        under._tr_write = transport.write
        under._socket = transport.get_extra_info("socket").fileno()
        under.underlying_transport = line
        under.is_secure = transport.get_extra_info("ssl_object") is not None
        under.disconnected_future = done_future()
        under._write_buffer = SHARED_WRITE_BUFFER
        protocol = WSProtocol.__new__(WSProtocol)
        cdef picows_protocol* fields = <picows_protocol*><PyObject*>protocol
        put(&fields.transport, under)
        put(&fields.listener, listener)
        put(&fields.logger, line)
        put(&fields.loop, loop)
        put(&fields.handshake_complete_future, under.disconnected_future)
        read_buffer = MemoryBuffer(READ_BUFFER)
        (<MemoryBuffer>read_buffer).size = READ_BUFFER - SLACK
        put(&fields.read_buffer, read_buffer)
        fields.disconnect_on_exception = True
        fields.max_frame_size = max_frame_size
        fields.state = WSParserState.READ_HEADER
        if protocol.transport is not under or protocol.listener is not listener:
            raise TypeError("picows' transport and listener are not where this module was built to find them")
        return Intake(protocol, line)

    def begin(self):
        """Tells the listener that it is connected, as picows does after its own handshake."""
        under = self.protocol.transport
        try:
            self.protocol.listener.on_ws_connected(under)
        except Exception:
            self.transport.exception("on_ws_connected failed")
            under.send_close(WSCloseCode.INTERNAL_ERROR)
            asyncio.get_running_loop().call_later(AFTER_ERROR, under.disconnect)

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
        lost = getattr(self.transport, "lost", None)  # a client's transport has no such thing
        if lost is not None:
            lost()


cdef class Session(WSListener):
    """A client's connection. Made by a mount, given to picows, forgotten with the connection."""

    def __init__(self, hub, unsigned short mount, unsigned char codec, socket):
        self.hub = hub
        self.socket = socket
        self.conn = 0
        self.mount = mount
        self.codec = codec

    @property
    def connection(self):
        """The hub's number of this connection; 0 before the handshake is over."""
        return self.conn

    cpdef on_ws_connected(self, WSTransport transport):
        under = transport.underlying_transport
        # The handshake's answer may still be on its way: then the hub waits for resume_writing.
        held = transport._tr_get_write_buffer_size() != 0
        descriptor = None if transport.is_secure else transport._socket
        self.conn = self.hub.open(
            self.mount, self.codec, descriptor, under, self.socket, self.socket.id, held,
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
