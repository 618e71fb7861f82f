"""Programs that come to us: other people's loops, and losses that were recorded elsewhere."""
