"""Unpacks Xpress Huffman, in which Windows packs Prefetch: also a stream that is cut off, as far as it stands.

Source: [MS-XCA] sections 2.1.4.3 (tables), 2.2 (decompression).
"""

from typing import NamedTuple

_BLOCK = 1 << 16  # bytes of a block's content; each has a table of its own
_TABLE, _SYMBOLS, _LONGEST = 256, 512, 15  # bytes of a table, which has the length of each symbol's code; bits of one
_LITERALS = 256  # symbols that stand for a byte; the others stand for bytes that came before
_SHORTEST = 3  # bytes of such a copy


class _Ended(Exception):
    """The stream is at its end, or is damaged."""


def unpacked(data: bytes, size: int) -> bytes:
    """What a stream holds, of `size` bytes; less if the stream is cut off, or damaged."""
    out, bits = bytearray(), _Bits(data)
    try:
        while len(out) < size:
            table = _codes(bits.table())
            stop = min(size, len(out) + _BLOCK)
            while len(out) < stop:
                _add(out, bits, table)
    except _Ended:
        pass
    return bytes(out[:size])


class _Code(NamedTuple):
    symbol: int
    length: int


def _codes(raw: bytes) -> list[_Code]:
    """The symbol that each 15 bits begin with."""
    lengths = [length for byte in raw for length in (byte & 15, byte >> 4)]
    found: list[_Code] = []
    for length in range(1, _LONGEST + 1):
        for symbol in range(_SYMBOLS):
            if lengths[symbol] == length:
                found += [_Code(symbol, length)] * (1 << (_LONGEST - length))
    if len(found) != 1 << _LONGEST:
        raise _Ended
    return found


class _Bits:
    """A stream of bits, in units of two bytes, and of bytes between them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.held, self.count = 0, 0  # bits, and how many

    def table(self) -> bytes:
        """The table of the next block, whose bits begin behind it."""
        raw = self.taken(_TABLE)
        self.held, self.count = 0, 0
        self._fill()
        self._fill()
        return raw

    def taken(self, length: int) -> bytes:
        """The next bytes, which are behind those of the bits that are held."""
        raw = self.data[self.at : self.at + length]
        if len(raw) < length:
            raise _Ended
        self.at += length
        return raw

    def _fill(self) -> None:
        self.held = self.held << 16 | int.from_bytes(self.taken(2), "little")
        self.count += 16

    def peek(self, length: int) -> int:
        """The next bits."""
        return self.held >> (self.count - length) & ((1 << length) - 1)

    def skip(self, length: int) -> None:
        """Go on behind some bits. At least 16 are held after it."""
        self.count -= length
        self.held &= (1 << self.count) - 1
        if self.count < 16:
            self._fill()


def _add(out: bytearray, bits: _Bits, table: list[_Code]) -> None:
    """Add what the next symbol stands for."""
    symbol, length = table[bits.peek(_LONGEST)]
    bits.skip(length)
    if symbol < _LITERALS:
        out.append(symbol)
        return
    wide, count = divmod(symbol - _LITERALS, 16)
    if count == 15:
        count += bits.taken(1)[0]
        if count == 15 + 255:
            count = int.from_bytes(bits.taken(2), "little")
    back = (1 << wide) + bits.peek(wide)
    bits.skip(wide)
    if back > len(out):
        raise _Ended
    for _ in range(count + _SHORTEST):
        out.append(out[-back])
