"""Logarithms in whole numbers: libraries round those of floats differently, and states must not differ."""

from __future__ import annotations

from typing import Final

FRACTION_BITS: Final = 16
"""Of a logarithm. Fewer would show in the spread of what is summed: fading rounds the sums, and that does not
average out."""

_INDEX_BITS: Final = 9
"""Leading bits of a number, after the first, that its logarithm is looked up by: right to 0.0015."""


def log2_fixed(number: int) -> int:
    """The logarithm to base 2 of a positive number, times 2^FRACTION_BITS."""
    whole = number.bit_length() - 1
    lead = number >> (whole - _INDEX_BITS) if whole >= _INDEX_BITS else number << (_INDEX_BITS - whole)
    return (whole << FRACTION_BITS) + _FRACTIONS[lead - (1 << _INDEX_BITS)]


def _fraction(index: int) -> int:
    """The logarithm of 1 + (index + 1/2) / 2^_INDEX_BITS: bit by bit, by squaring (Knuth, The Art of Computer
    Programming, 1.2.2, exercise 25)."""
    one = 1 << 62
    mantissa = one + ((2 * index + 1) << (61 - _INDEX_BITS))
    found = 0
    for _ in range(FRACTION_BITS):
        mantissa = mantissa * mantissa >> 62
        found <<= 1
        if mantissa >= 2 * one:
            mantissa >>= 1
            found += 1
    return found


_FRACTIONS: Final = tuple(_fraction(index) for index in range(1 << _INDEX_BITS))
