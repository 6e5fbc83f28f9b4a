"""Writes what PeakRDL's own exporters leave out of iobond.rdl: the offsets of the registers as Rust constants (a device
that decodes accesses matches on them; a generated accessor cannot be matched on) and a Markdown reference in which an array
is one entry and not sixty-four.

Usage: generate.py iobond.rdl OFFSETS.rs REFERENCE.md   (`cargo xtask registers` calls it)
"""

import sys

from systemrdl import RDLCompiler
from systemrdl.node import RegNode

NOTICE = "Generated from iobond.rdl by `cargo xtask registers`; do not edit."


def text(node, name):
    """A property as one line, for a doc comment or a table cell."""
    value = node.get_property(name) or ""
    return " ".join(value.split())


def arrayed(node):
    return node.array_dimensions[0] if node.is_array else 1


def offset_in_parent(node):
    return node.raw_address_offset


def access(reg):
    """What software may do with a register: the union over its fields."""
    fields = list(reg.fields())
    reads = any(f.is_sw_readable for f in fields)
    writes = any(f.is_sw_writable for f in fields)
    return ("r" if reads else "") + ("w" if writes else "")


def reset_value(reg):
    value = 0
    for field in reg.fields():
        value |= (field.get_property("reset") or 0) << field.low
    return value


def rust_register(reg):
    name = reg.inst_name.upper()
    yield f"    /// {text(reg, 'name')}, software access `{access(reg)}`, reset value {reset_value(reg):#x}."
    yield f"    pub const {name}: u32 = {offset_in_parent(reg):#05x};"
    if reg.is_array:
        yield f"    /// How many of [`{name}`] there are, {reg.array_stride} bytes apart."
        yield f"    pub const {name}_COUNT: u32 = {arrayed(reg)};"


def rust_regfile(regfile):
    yield f"/// {text(regfile, 'name')}: offsets inside one such register file."
    yield f"pub mod {regfile.inst_name} {{"
    yield "    /// Offset of the (first) register file in BAR0."
    yield f"    pub const BASE: u32 = {offset_in_parent(regfile):#06x};"
    yield "    /// How many there are."
    yield f"    pub const COUNT: u32 = {arrayed(regfile)};"
    yield "    /// Bytes from one to the next; of a single one, its size."
    stride = regfile.array_stride if regfile.is_array else regfile.size
    yield f"    pub const STRIDE: u32 = {stride:#x};"
    for reg in regfile.children(unroll=False):
        if isinstance(reg, RegNode):
            yield from rust_register(reg)
    yield "}"


def rust(top):
    yield f"//! Offsets of the base-side registers. {NOTICE}"
    yield ""
    yield "/// Size of the register map in bytes, rounded up to a power of two as a BAR must be."
    yield f"pub const BAR0_SIZE: u32 = {1 << (top.size - 1).bit_length():#x};"
    for regfile in top.children(unroll=False):
        yield ""
        yield from rust_regfile(regfile)


def bits(field):
    return str(field.low) if field.width == 1 else f"{field.high}:{field.low}"


def field_access(field):
    return ("r" if field.is_sw_readable else "") + ("w" if field.is_sw_writable else "")


def markdown_field(field):
    encode = field.get_property("encode")
    meaning = text(field, "desc")
    if encode:
        meaning += " " + " ".join(f"**{m.value} `{m.name}`**: {' '.join((m.rdl_desc or '').split())}" for m in encode)
    reset = field.get_property("reset") or 0
    return f"| {bits(field)} | `{field.inst_name}` | {field_access(field)} | {reset:#x} | {meaning} |"


def markdown_register(reg):
    array = f" [{arrayed(reg)}], every {reg.array_stride} bytes" if reg.is_array else ""
    yield f"#### `+{offset_in_parent(reg):#05x}` `{reg.inst_name}`{array}: {text(reg, 'name')}"
    yield ""
    if text(reg, "desc") and reg.get_property("desc") != reg.get_property("name"):
        yield text(reg, "desc")
        yield ""
    yield "| bits | field | access | reset | meaning |"
    yield "|---|---|---|---|---|"
    for field in reg.fields():
        yield markdown_field(field)
    yield ""


def markdown_regfile(regfile):
    array = f" [{arrayed(regfile)}], every {regfile.array_stride:#x} bytes" if regfile.is_array else ""
    yield f"### `{offset_in_parent(regfile):#06x}` `{regfile.inst_name}`{array}: {text(regfile, 'name')}"
    yield ""
    yield text(regfile, "desc")
    yield ""
    for reg in regfile.children(unroll=False):
        if isinstance(reg, RegNode):
            yield from markdown_register(reg)


def markdown(top):
    yield f"# {text(top, 'name')}"
    yield ""
    yield f"<!-- {NOTICE} -->"
    yield f"{text(top, 'desc')} 32-bit, naturally aligned, little-endian accesses; others are refused and counted."
    yield ""
    yield "| offset | registers | |"
    yield "|---|---|---|"
    for regfile in top.children(unroll=False):
        count = f"[{arrayed(regfile)}]" if regfile.is_array else ""
        yield f"| `{offset_in_parent(regfile):#06x}` | `{regfile.inst_name}`{count} | {text(regfile, 'name')} |"
    yield ""
    for regfile in top.children(unroll=False):
        yield from markdown_regfile(regfile)


def main():
    source, offsets, reference = sys.argv[1:]
    compiler = RDLCompiler()
    compiler.compile_file(source)
    top = compiler.elaborate().top
    for path, lines in ((offsets, rust(top)), (reference, markdown(top))):
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join(lines).rstrip("\n") + "\n")


if __name__ == "__main__":
    main()
