"""The paper venue: a Binance-spot-compatible exchange driven by a recorded or a synthetic market."""
