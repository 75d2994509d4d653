"""A finished run put to use: generate, serve, export."""
