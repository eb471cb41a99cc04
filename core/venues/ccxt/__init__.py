"""Venues other than Binance, through ccxt (extra `ccxt`): the same port, with what ccxt can prove and no more."""
