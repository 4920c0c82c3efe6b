# cython: language_level=3, boundscheck=False, wraparound=False
"""From picows to the engine: see `_session.pxd` for what is here.

An open connection is held by the million, so what picows keeps for features moda does not use is
given back when the handshake is over (measured: 8.2 KB to 4.5 KB per connection): the parsed
request and response, the write buffer (every write of picows is a synchronous copy, so one buffer
serves all connections) and two futures nobody waits for.
"""

import asyncio
import sys

from cpython.mem cimport PyMem_Realloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from picows.picows import WSProtocol

from moda import _core

cdef moda_api* API = <moda_api*>PyCapsule_GetPointer(_core._C_API, "moda._core._C_API")
if API.version != 1:
    raise ImportError(f"moda._core speaks version {API.version} of the frame interface, moda._session speaks 1")

cdef MemoryBuffer SHARED_WRITE_BUFFER = MemoryBuffer(16384)

# picows' read buffer doubles as a message needs it and never shrinks: ten thousand clients that each
# once sent a mebibyte would hold ten gigabytes. So a large one is given back.
cdef Py_ssize_t LARGE = 65536
cdef Py_ssize_t SMALL = 2048
cdef Py_ssize_t SLACK = 256  # picows keeps this much behind the buffer's size for its vector code
cdef bint LAYOUT_KNOWN = WSProtocol.__basicsize__ == sizeof(picows_protocol)
can_give_back = bool(LAYOUT_KNOWN)
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


cdef class Session(WSListener):
    """A client's connection. Made by a mount, given to picows, forgotten with the connection."""

    def __init__(self, hub, unsigned short mount, bint v1, socket):
        self.hub = hub
        self.socket = socket
        self.conn = 0
        self.mount = mount
        self.v1 = v1
        self.shrinking = False

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
            self.mount, self.v1, descriptor, under, self.socket, self.socket.id, held
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
            if frame.payload_size > LARGE and not self.shrinking and LAYOUT_KNOWN:
                self.give_back_later(transport)
        except BaseException as error:
            sys.unraisablehook(_Unraisable(error))
            self.hub.close(self.conn, 1011, "internal error")

    cdef object give_back_later(self, WSTransport transport):
        # Not now: picows is still reading from the buffer.
        self.shrinking = True
        asyncio.get_running_loop().call_soon(self.give_back, transport)

    def give_back(self, WSTransport transport):
        """Shrinks the read buffer to its first size if nothing waits in it. Called once per large message."""
        self.shrinking = False
        if self.hub is None:
            return
        under = transport.underlying_transport
        protocol = getattr(under, "transport", under).get_protocol()
        if type(protocol) is not WSProtocol:
            return
        # The type is exactly the one whose size LAYOUT_KNOWN compared, see the .pxd.
        cdef picows_protocol* fields = <picows_protocol*><PyObject*>protocol
        if fields.read_buffer == NULL or fields.new_data_start_pos != 0:
            return
        held = <object>fields.read_buffer
        if not isinstance(held, MemoryBuffer):
            return
        cdef MemoryBuffer buffer = <MemoryBuffer>held
        if buffer.capacity <= LARGE:
            return
        cdef char* data = <char*>PyMem_Realloc(buffer.data, SMALL)
        if data == NULL:
            return
        buffer.data = data
        buffer.capacity = SMALL
        buffer.size = SMALL - SLACK

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
