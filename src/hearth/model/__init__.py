"""The words of Hearth: frozen dataclasses, statuses and their legal moves, ids, queries, refusals.

Nothing here performs I/O and nothing here imports any other package of ours.
"""
