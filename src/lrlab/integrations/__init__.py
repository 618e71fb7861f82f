"""Programs that come to us: other people's loops, and losses that were recorded elsewhere.

Each file imports the library that it is for; this one imports nothing.
"""
