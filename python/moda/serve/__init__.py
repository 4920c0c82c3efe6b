"""The door: one listening port for HTTP and WebSocket, its signals, its drain, its logs."""
