"""Paths and addresses of files, HTTP, credentials, local copies, and Arrow tables.

May import no other room. Knows nothing of runs, shards or images.
"""
