"""The emergency canceller: halts the engine durably and cancels all open orders at the venue, with neither alive."""
