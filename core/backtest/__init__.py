"""Backtests: a strategy over stored bars, through the kernel, risk and authority of the live engine."""
