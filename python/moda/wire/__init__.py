"""Protocols towards clients: the Phoenix conversation, its handshake, its channels' tasks."""
