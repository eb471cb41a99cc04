"""`veloz up`: starts what isn't configured as external, supervises it, stops it cleanly, and examines it."""
