#!/usr/bin/env python3
"""gen_schema.py - structs, descriptors and tables from a .schema file.

Used at build time for the link's records, the database's rows and the configuration; the
language is described at the top of src/link/link.schema and src/store/rows.schema, and
here once more as a whole:

    record NAME "what it is"
      NUMBER NAME TYPE [key] [required] [sealed] [since=V] "what it is, with its unit"
      NUMBER NAME TYPE retired "..."     the number stays taken, the field is gone
    table NAME [cold] "what it is"       a record that is a database table; 'cold': large
      ...fields...                       and seldom read, so not kept in memory
      index NAME FIELD...
      unique NAME FIELD...

    TYPE: bool int f64 time str blob, a record's name, or 'list TYPE'

A header and a source are written: struct PREFIX_NAME, PREFIX_NAME_desc and, for tables,
PREFIX_NAME_type, PREFIX_types[] and PREFIX_TYPES. See src/base/desc.h for the layout.
"""

import argparse
import re
import shlex
import sys

SCALARS = {
    "bool": ("DESC_BOOL", "bool "),
    "int": ("DESC_INT", "int64_t "),
    "f64": ("DESC_F64", "double "),
    "time": ("DESC_TIME", "int64_t "),
    "str": ("DESC_STR", "const char *"),
    "blob": ("DESC_BLOB", "struct blob "),
}
KEY_TYPES = {"bool", "int", "time", "str"}
C_WORDS = set(
    "auto break case char const continue default do double else enum extern float for goto"
    " if inline int long register restrict return short signed sizeof static struct switch"
    " typedef union unsigned void volatile while".split()
)
# Words that the structs of store.h, or the names made from a table's own, already have.
TABLE_WORDS = {"list", "index", "query", "type"}
INDEX_WORDS = {"fields", "desc", "key", "indexes", "type"}
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class SchemaError(Exception):
    pass


class Field:
    def __init__(self, number, name, type_name, is_list, note, line):
        self.number, self.name, self.type, self.is_list = number, name, type_name, is_list
        self.note, self.line = note, line
        self.flags = set()
        self.since = 1


class Record:
    def __init__(self, name, note, is_table, line):
        self.name, self.note, self.is_table, self.line = name, note, is_table, line
        self.cold = False
        self.fields = []
        self.retired = {}  # Numbers and names that may not be used again.
        self.indexes = []  # (name, [field name], unique, line)

    def position(self, name):
        return [f.name for f in self.fields].index(name)

    def keys(self):
        return [f for f in self.fields if "key" in f.flags]


# ---- reading --------------------------------------------------------------------------------


def words_of(line):
    """The words of a line; a quoted one comes as ('"', text)."""
    lexer = shlex.shlex(line, posix=False)
    lexer.whitespace_split = True
    lexer.quotes = '"'
    lexer.commenters = "#"
    return list(lexer)


def take_note(words, line):
    if not words or len(words[-1]) < 2 or words[-1][0] != '"' or words[-1][-1] != '"':
        raise SchemaError(f"line {line}: must end with a description in quotes")
    return words.pop()[1:-1]


def check_name(name, line):
    if not NAME.match(name) or name in C_WORDS:
        raise SchemaError(f"line {line}: '{name}' cannot be a name")
    return name


def read_record(words, line):
    is_table = words[0] == "table"
    note = take_note(words, line)
    if len(words) < 2:
        raise SchemaError(f"line {line}: {words[0]} without a name")
    record = Record(check_name(words[1], line), note, is_table, line)
    for word in words[2:]:
        if word != "cold" or not is_table:
            raise SchemaError(f"line {line}: unknown word '{word}'")
        record.cold = True
    return record


def read_flag(field, word, is_table, line):
    if word in ("required", "sealed", "retired") or (word == "key" and is_table):
        field.flags.add(word)
    elif re.match(r"since=[1-9][0-9]*\Z", word):
        field.since = int(word[6:])
    else:
        raise SchemaError(f"line {line}: unknown word '{word}'")


def read_field(record, words, line):
    note = take_note(words, line)
    number = int(words[0])
    is_list = len(words) > 2 and words[2] == "list"
    type_at = 3 if is_list else 2
    if len(words) <= type_at:
        raise SchemaError(f"line {line}: a field is NUMBER NAME TYPE \"what it is\"")
    if not 1 <= number <= 65534:
        raise SchemaError(f"line {line}: number {number} is out of range")
    field = Field(number, check_name(words[1], line), words[type_at], is_list, note, line)
    for word in words[type_at + 1 :]:
        read_flag(field, word, record.is_table, line)
    taken = {f.number: f.line for f in record.fields} | {f.name: f.line for f in record.fields}
    taken |= record.retired
    for what in (field.number, field.name):
        if what in taken:
            raise SchemaError(
                f"line {line}: '{what}' is taken in {record.name} by line {taken[what]}"
            )
    if "retired" in field.flags:
        record.retired |= {field.number: line, field.name: line}
    else:
        record.fields.append(field)


def read_index(record, words, line):
    if not record.is_table:
        raise SchemaError(f"line {line}: {record.name} is a record: only tables have indexes")
    if len(words) < 3:
        raise SchemaError(f"line {line}: {words[0]} NAME FIELD...")
    if words[1] in [index[0] for index in record.indexes]:
        raise SchemaError(f"line {line}: index '{words[1]}' is there twice")
    record.indexes.append((check_name(words[1], line), words[2:], words[0] == "unique", line))


def read_schema(text):
    records = []
    for line, content in enumerate(text.splitlines(), 1):
        try:
            words = words_of(content)
        except ValueError as e:
            raise SchemaError(f"line {line}: {e}") from None
        if not words:
            continue
        if words[0] in ("record", "table"):
            records.append(read_record(words, line))
        elif not records:
            raise SchemaError(f"line {line}: '{words[0]}' before any record or table")
        elif words[0] in ("index", "unique"):
            read_index(records[-1], words, line)
        elif words[0].isdigit():
            read_field(records[-1], words, line)
        else:
            raise SchemaError(f"line {line}: '{words[0]}' is not known here")
    return records


# ---- checking -------------------------------------------------------------------------------


def check_key_field(field, what, line):
    if field.is_list or field.type not in KEY_TYPES or "sealed" in field.flags:
        raise SchemaError(f"line {line}: '{field.name}' cannot be part of {what}")


def check_table(record):
    if record.name in TABLE_WORDS:
        raise SchemaError(f"line {record.line}: '{record.name}' cannot be a table's name")
    if not record.keys():
        raise SchemaError(f"line {record.line}: table {record.name} has no key")
    for field in record.keys():
        check_key_field(field, "a key", field.line)
    for name, names, _, line in record.indexes:
        if name in INDEX_WORDS:
            raise SchemaError(f"line {line}: '{name}' cannot be an index's name")
        for field_name in names:
            if field_name not in [f.name for f in record.fields]:
                raise SchemaError(
                    f"line {line}: index {name}: {record.name} has no field '{field_name}'"
                )
            check_key_field(record.fields[record.position(field_name)], "an index", line)
    for field in record.fields:
        if "sealed" in field.flags and (field.is_list or field.type not in ("str", "blob")):
            raise SchemaError(f"line {field.line}: only str and blob columns can be sealed")


def check_cycle(record, by_name, path):
    if record.name in path:
        raise SchemaError(f"line {record.line}: {' -> '.join(path + [record.name])}: a cycle")
    for field in record.fields:
        if field.type in by_name:
            check_cycle(by_name[field.type], by_name, path + [record.name])


def check_schema(records):
    by_name = {}
    has_tables = any(r.is_table for r in records)
    for record in records:
        if record.name in by_name:
            raise SchemaError(f"line {record.line}: '{record.name}' is there twice")
        by_name[record.name] = record
    for record in records:
        if not record.fields:
            raise SchemaError(f"line {record.line}: '{record.name}' has no fields")
        for field in record.fields:
            inner = by_name.get(field.type)
            if field.type not in SCALARS and (not inner or inner.is_table):
                raise SchemaError(f"line {field.line}: unknown type '{field.type}'")
            if has_tables and not record.is_table and "sealed" in field.flags:
                raise SchemaError(f"line {field.line}: seal the whole column, not a part of it")
        check_cycle(record, by_name, [])
        if record.is_table:
            check_table(record)


# ---- writing --------------------------------------------------------------------------------


def comment(note):
    return f" /* {note.replace('*/', '* /')} */" if note else ""


def member(field, prefix):
    item = SCALARS[field.type][1] if field.type in SCALARS else f"struct {prefix}_{field.type} "
    if field.is_list:
        return f"LIST_OF({item.strip()}) {field.name};"
    if field.type not in SCALARS:
        return f"const {item}*{field.name};"
    return f"{item}{field.name};"


def header(records, prefix, source):
    tables = [r for r in records if r.is_table]
    newest = max(f.since for r in records for f in r.fields)
    out = [f"/* Generated by tools/gen_schema.py from {source}. */", "#pragma once"]
    out += ['#include "store/store.h"' if tables else '#include "base/desc.h"', ""]
    out += [f"#define {prefix.upper()}_SCHEMA_VERSION {newest}", ""]
    out += [f"struct {prefix}_{r.name};" for r in records]
    for r in records:
        out += ["", f"/* {r.note} */"] if r.note else [""]
        out += [f"struct {prefix}_{r.name} {{"]
        out += [f"    {member(f, prefix)}{comment(f.note)}" for f in r.fields]
        out += ["};", f"extern const struct desc {prefix}_{r.name}_desc;"]
        if r.is_table:
            out += [f"extern const struct row_type {prefix}_{r.name}_type;"]
    if tables:
        out += ["", f"#define {prefix.upper()}_TYPES {len(tables)}"]
        out += [f"extern const struct row_type *const {prefix}_types[{prefix.upper()}_TYPES];"]
    return "\n".join(out) + "\n"


FLAGS = {"required": "DESC_REQUIRED", "sealed": "DESC_SEALED", "key": "DESC_KEY"}


def field_entry(field, struct, prefix):
    kind = SCALARS[field.type][0] if field.type in SCALARS else "DESC_STRUCT"
    flags = " | ".join(FLAGS[f] for f in sorted(field.flags)) or "0"
    parts = [f'.name = "{field.name}"', f".kind = {'DESC_LIST' if field.is_list else kind}"]
    if field.is_list:
        parts.append(f".item_kind = {kind}")
    if kind == "DESC_STRUCT":
        parts.append(f".type = &{prefix}_{field.type}_desc")
    parts += [
        f".offset = offsetof({struct}, {field.name})",
        ".has_offset = DESC_ALWAYS",
        f".number = {field.number}",
        f".since = {field.since}",
        f".flags = {flags}",
    ]
    return "    {" + ", ".join(parts) + "},"


def desc_source(record, prefix):
    struct = f"struct {prefix}_{record.name}"
    base = f"{prefix}_{record.name}"
    out = [f"static const struct desc_field {base}_fields[] = {{"]
    out += [field_entry(f, struct, prefix) for f in record.fields]
    out += ["};", f"const struct desc {base}_desc = {{"]
    out += [f'    .name = "{record.name}", .fields = {base}_fields,']
    out += [f"    .field_count = {len(record.fields)}, .size = sizeof({struct}),", "};", ""]
    return out


def positions(name, values):
    return f"static const uint16_t {name}[] = {{{', '.join(map(str, values))}, UINT16_MAX}};"


def table_source(record, number, prefix):
    base = f"{prefix}_{record.name}"
    out = [positions(f"{base}_key", [record.position(f.name) for f in record.keys()])]
    for name, fields, _, _ in record.indexes:
        out.append(positions(f"{base}_{name}", [record.position(f) for f in fields]))
    if record.indexes:
        out.append(f"static const struct row_index {base}_indexes[] = {{")
        for name, _, unique, _ in record.indexes:
            word = "true" if unique else "false"
            out.append(f'    {{.name = "{name}", .fields = {base}_{name}, .unique = {word}}},')
        out.append("};")
    out += [f"const struct row_type {base}_type = {{"]
    out += [f'    .name = "{record.name}", .desc = &{base}_desc, .key = {base}_key,']
    if record.indexes:
        out += [f"    .indexes = {base}_indexes, .index_count = {len(record.indexes)},"]
    out += [f"    .id = {number}, .cold = {'true' if record.cold else 'false'},", "};", ""]
    return out


def source_text(records, prefix, include, source):
    out = [f"/* Generated by tools/gen_schema.py from {source}. */", f'#include "{include}"', ""]
    for r in records:
        out += desc_source(r, prefix)
    tables = [r for r in records if r.is_table]
    for number, r in enumerate(tables):
        out += table_source(r, number, prefix)
    if tables:
        out += [f"const struct row_type *const {prefix}_types[{prefix.upper()}_TYPES] = {{"]
        out += [f"    &{prefix}_{r.name}_type," for r in tables]
        out += ["};"]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description="structs and descriptors from a schema")
    parser.add_argument("--prefix", required=True, help="of every C name: link, row, config")
    parser.add_argument("--include", required=True, help="how the source includes the header")
    parser.add_argument("schema")
    parser.add_argument("out_h")
    parser.add_argument("out_c")
    args = parser.parse_args()
    source = args.schema.rsplit("/", 1)[-1]
    try:
        with open(args.schema, encoding="utf-8") as f:
            records = read_schema(f.read())
        check_schema(records)
    except SchemaError as e:
        sys.exit(f"{args.schema}: {e}")
    with open(args.out_h, "w", encoding="utf-8") as f:
        f.write(header(records, args.prefix, source))
    with open(args.out_c, "w", encoding="utf-8") as f:
        f.write(source_text(records, args.prefix, args.include, source))


if __name__ == "__main__":
    main()
