"""Realtime: events over WebSockets, for every generation of clients (contract: side-services 13, clients 6.1)."""
