"""lrlab in other people's loops. Each module imports the library that it is for; this one imports nothing."""
