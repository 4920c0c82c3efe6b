# cython: language_level=3
"""The table of contents of `_session`: what stands before and behind picows on one connection.

Bytes in: the loop asks `Intake` for room and so reads no more at a time than one turn may handle;
picows parses a frame in C and calls `Session.on_ws_frame`, which hands pointer and length to
`moda._core` through the functions below. Nothing is decided here.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from picows.picows cimport MemoryBuffer, WSFrame, WSListener, WSTransport

# Must match `struct Api` in rust/python/src/capi.rs.
ctypedef int (*frame_function)(
    PyObject* hub, uint64_t conn, uint8_t op, int fin, int rsv, const uint8_t* payload, size_t length
) except -1

cdef struct moda_api:
    int version
    frame_function frame

cdef extern from *:
    """
    #include <Python.h>
    #include <stdint.h>
    /* picows 2.3.1, class WSProtocol, in its order of declaration. Not part of its .pxd, so what is
       read and set through it is guarded: the class must have this size, the read buffer's field
       must hold a MemoryBuffer, and picows must find what was set where it looks for it. */
    struct picows_protocol {
        PyObject_HEAD
        void *vtable;
        PyObject *transport, *listener, *listener_factory, *host_port, *ws_path, *logger;
        int log_debug_enabled, is_client_side, disconnect_on_exception;
        PyObject *disconnect_exception, *loop;
        PyObject *handshake_timeout, *handshake_timeout_handle, *handshake_complete_future;
        Py_ssize_t http_max_size;
        PyObject *websocket_key_b64;
        Py_ssize_t max_frame_size;
        int enable_auto_pong, enable_auto_ping;
        PyObject *auto_ping_idle_timeout, *auto_ping_reply_timeout;
        int auto_ping_strategy;
        PyObject *auto_ping_loop_task;
        double last_data_time;
        PyObject *extra_headers;
        int state;
        PyObject *read_buffer;
        Py_ssize_t new_data_start_pos, curr_state_start_pos, curr_frame_start_pos;
        Py_ssize_t payload_length, payload_start_pos;
        int msg_type;
        uint32_t mask;
        uint8_t fin, rsv1, rsv2, rsv3, has_mask, payload_length_flag;
    };
    """
    cdef struct picows_protocol:
        PyObject *transport, *listener, *logger, *loop
        int disconnect_on_exception
        PyObject* handshake_complete_future
        Py_ssize_t max_frame_size
        int state
        PyObject* read_buffer
        Py_ssize_t new_data_start_pos, curr_frame_start_pos
        Py_ssize_t payload_length, payload_start_pos

cdef class Intake:
    cdef:
        object protocol         # picows' WSProtocol, behind this one
        object transport        # what is paused and resumed: a Line, or the transport itself
        MemoryBuffer buffer     # the protocol's own read buffer
        Py_ssize_t first        # its capacity at the start, and again when little comes
        Py_ssize_t given        # bytes the loop was given room for
        Py_ssize_t taken        # bytes read since the loop last found less than it had room for
        bint shrinking          # the buffer has grown and is to be given back

    cdef picows_protocol* fields(self)
    cdef object give_back_later(self)

cdef class Session(WSListener):
    cdef:
        object hub              # moda._core.Hub, None once the connection is lost
        object socket           # what the connect hook made of this client
        uint64_t conn           # the hub's name for this connection
        unsigned short mount
        unsigned char codec

    # picows calls these
    cpdef on_ws_connected(self, WSTransport transport)
    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame)
    cpdef on_ws_disconnected(self, WSTransport transport)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
