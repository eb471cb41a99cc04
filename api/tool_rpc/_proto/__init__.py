"""Generated from proto/ by `make proto`; committed, and checked for freshness by `make lint`."""
