"""The USD-M half of the paper venue: perpetual futures margined in USDT, with Binance's REST and WebSocket surface."""
