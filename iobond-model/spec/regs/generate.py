"""Writes what PeakRDL's own exporters leave out of iobond.rdl: the offsets of the registers as Rust constants (a device
that decodes accesses matches on them; a generated accessor cannot be matched on) and a reference, in Markdown and as one
self-contained HTML page, in which an array is one entry and not sixty-four.

Usage: generate.py iobond.rdl OFFSETS.rs REFERENCE.md REFERENCE.html   (`cargo xtask registers` calls it)
"""

import sys

from markdown import markdown as html_of
from systemrdl import RDLCompiler

NOTICE = "Generated from iobond.rdl by `cargo xtask registers`; do not edit."

STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid #8888; }
h3 { margin: 1.6rem 0 0.4rem; }
table { border-collapse: collapse; }
th, td { border: 1px solid #8886; padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }
a { color: inherit; }"""


def text(node, name):
    """A property as one line, for a doc comment or a table cell."""
    return " ".join((node.get_property(name) or "").split())


def count(node):
    return node.array_dimensions[0] if node.is_array else 1


def access(*fields):
    """What software may do with a field, or with a register of these fields."""
    reads = any(field.is_sw_readable for field in fields)
    writes = any(field.is_sw_writable for field in fields)
    return ("r" if reads else "") + ("w" if writes else "")


def reset(field):
    return field.get_property("reset") or 0


def rust(top):
    yield f"//! Offsets of the base-side registers. {NOTICE}"
    yield ""
    yield "/// Size of the register map in bytes, rounded up to a power of two as a BAR must be."
    yield f"pub const BAR0_SIZE: u32 = {1 << (top.size - 1).bit_length():#x};"
    for regfile in top.children(unroll=False):
        yield ""
        yield from rust_regfile(regfile)


def rust_regfile(regfile):
    stride = regfile.array_stride if regfile.is_array else regfile.size
    yield f"/// {text(regfile, 'name')}: offsets inside one such register file."
    yield f"pub mod {regfile.inst_name} {{"
    yield "    /// Offset of the (first) register file in BAR0."
    yield f"    pub const BASE: u32 = {regfile.raw_address_offset:#06x};"
    yield "    /// How many there are."
    yield f"    pub const COUNT: u32 = {count(regfile)};"
    yield "    /// Bytes from one to the next; of a single one, its size."
    yield f"    pub const STRIDE: u32 = {stride:#x};"
    for reg in regfile.registers(unroll=False):
        yield from rust_register(reg)
    yield "}"


def rust_register(reg):
    name = reg.inst_name.upper()
    initial = sum(reset(field) << field.low for field in reg.fields())
    yield f"    /// {text(reg, 'name')}, software access `{access(*reg.fields())}`, reset value {initial:#x}."
    yield f"    pub const {name}: u32 = {reg.raw_address_offset:#05x};"
    if reg.is_array:
        yield f"    /// How many of [`{name}`] there are, {reg.array_stride} bytes apart."
        yield f"    pub const {name}_COUNT: u32 = {count(reg)};"


def reference(top):
    yield f"# {text(top, 'name')}"
    yield ""
    yield f"<!-- {NOTICE} -->"
    yield ""
    yield f"{text(top, 'desc')} 32-bit, naturally aligned, little-endian accesses; others are refused and counted."
    yield ""
    yield "| offset | registers | |"
    yield "|---|---|---|"
    for regfile in top.children(unroll=False):
        times = f"[{count(regfile)}]" if regfile.is_array else ""
        yield f"| `{regfile.raw_address_offset:#06x}` | `{regfile.inst_name}`{times} | {text(regfile, 'name')} |"
    yield ""
    for regfile in top.children(unroll=False):
        yield from reference_regfile(regfile)


def reference_regfile(regfile):
    yield f"## `{regfile.raw_address_offset:#06x}` {heading(regfile, hex)}"
    yield ""
    yield text(regfile, "desc")
    yield ""
    for reg in regfile.registers(unroll=False):
        yield from reference_register(reg)


def reference_register(reg):
    yield f"### `+{reg.raw_address_offset:#05x}` {heading(reg, str)}"
    yield ""
    if text(reg, "desc"):
        yield text(reg, "desc")
        yield ""
    yield "| bits | field | access | reset | meaning |"
    yield "|---|---|---|---|---|"
    for field in reg.fields():
        yield reference_field(field)
    yield ""


def heading(node, number):
    """Name and title of a register or register file, with its repetition."""
    every = f" [{count(node)}], every {number(node.array_stride)} bytes" if node.is_array else ""
    return f"`{node.inst_name}`{every}: {text(node, 'name')}"


def reference_field(field):
    bits = str(field.low) if field.width == 1 else f"{field.high}:{field.low}"
    meaning = [text(field, "desc")]
    for member in field.get_property("encode") or ():
        meaning.append(f"**{member.value} `{member.name}`**: {' '.join((member.rdl_desc or '').split())}")
    return f"| {bits} | `{field.inst_name}` | {access(field)} | {reset(field):#x} | {' '.join(meaning)} |"


def page(title, body):
    """The Markdown reference as one HTML page that needs no other file."""
    yield f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>'
    yield f"<style>\n{STYLE}\n</style>"
    yield html_of(body, extensions=["tables", "toc"])
    yield "</html>"


def main():
    source, offsets_rs, reference_md, reference_html = sys.argv[1:]
    compiler = RDLCompiler()
    compiler.compile_file(source)
    top = compiler.elaborate().top
    body = "\n".join(reference(top))
    outputs = (
        (offsets_rs, "\n".join(rust(top))),
        (reference_md, body),
        (reference_html, "\n".join(page(text(top, "name"), body))),
    )
    for path, content in outputs:
        with open(path, "w", encoding="utf-8") as out:
            out.write(content.rstrip("\n") + "\n")


if __name__ == "__main__":
    main()
