"""Hearth: a self-hosted functions platform that speaks the Appwrite Functions API."""

__version__ = "0.1.0"

#: Version of the wire contract this server answers with (error bodies, `/v1/health/version`).
CONTRACT_VERSION = "1.9.6"
