"""Unpacks Xpress Huffman, in which Windows packs Prefetch: also a stream that is cut off, as far as it stands.

Source: [MS-XCA] sections 2.1.4.3 (tables) and 2.2 (unpacking).
"""

from itertools import repeat

_BLOCK = 1 << 16  # bytes of a block's content; each has a table of its own
_TABLE, _SYMBOLS, _LONGEST = 256, 512, 15  # bytes of a table, which has the length of each symbol's code; bits of one
_LITERALS = 256  # symbols that stand for a byte; the others stand for bytes that came before
_SHORTEST = 3  # bytes of such a copy


def unpacked(data: bytes, size: int) -> bytes:
    """What a stream holds, of `size` bytes; less if the stream is cut off, or damaged."""
    out, at = bytearray(), 0
    try:
        while len(out) < size:
            at = _add_block(out, data, at, min(size, len(out) + _BLOCK))
    except (IndexError, ValueError):  # the stream is at its end, or what it says makes no sense
        pass
    return bytes(out[:size])


def _codes(raw: bytes) -> list[tuple[int, int]]:
    """What each 15 bits begin with: a symbol, and how many bits it has. Raises ValueError."""
    lengths = [length for byte in raw for length in (byte & 15, byte >> 4)]
    found: list[tuple[int, int]] = []
    for length in range(1, _LONGEST + 1):
        for symbol in range(_SYMBOLS):
            if lengths[symbol] == length:
                found.extend(repeat((symbol, length), 1 << (_LONGEST - length)))
    if len(found) != 1 << _LONGEST:
        raise ValueError(len(found))
    return found


def _add_block(out: bytearray, data: bytes, at: int, stop: int) -> int:
    """Add what a block holds, until there are `stop` bytes. Returns where the next block begins.

    Bits come in units of two bytes, of which one or two are held; whole bytes come behind those that are held.
    Raises IndexError at the stream's end, and ValueError.
    """
    codes = _codes(data[at : at + _TABLE])
    at += _TABLE + 4
    held = data[at - 3] << 24 | data[at - 4] << 16 | data[at - 1] << 8 | data[at - 2]
    count = 32
    while len(out) < stop:
        symbol, length = codes[held >> (count - _LONGEST)]
        count -= length
        held &= (1 << count) - 1
        if count < 16:
            held = held << 16 | data[at + 1] << 8 | data[at]
            count, at = count + 16, at + 2
        if symbol < _LITERALS:
            out.append(symbol)
            continue
        wide, copied = divmod(symbol - _LITERALS, 16)
        if copied == 15:
            copied, at = copied + data[at], at + 1
            if copied == 15 + 255:
                copied, at = data[at + 1] << 8 | data[at], at + 2
        count -= wide
        back = (1 << wide) + (held >> count)
        held &= (1 << count) - 1
        if count < 16:
            held = held << 16 | data[at + 1] << 8 | data[at]
            count, at = count + 16, at + 2
        if back > len(out):
            raise ValueError(back)
        copied += _SHORTEST
        start = len(out) - back
        some = out[start : start + copied]
        out += (some * (copied // back + 1))[:copied]
    return at
