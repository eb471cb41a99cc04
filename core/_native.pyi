"""VeloZ's native core."""

def parse_scaled(text: str, scale: int) -> int:
    """
    Decimal text to an int at `scale` decimal places, exactly.

    Raises ValueError for text that isn't a plain decimal, has more places than the scale, or needs more than 63 bits.
    """
