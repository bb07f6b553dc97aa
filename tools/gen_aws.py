#!/usr/bin/env python3
"""gen_aws.py - C structs, descriptors and operation tables from an AWS service model.

Reads a service model in botocore's form (service-2.json: botocore's own, or one of ours)
and a list of the operations that are served, and writes three files:

  api.h    one struct a shape that those operations reach, and the handlers' prototypes
  api.c    a constant 'struct desc' a shape: names on the wire, places, limits
  table.c  the 'struct service': what can be called, and what AWS has besides

The list has one operation a line, 'NAME read' or 'NAME write'; 'open SHAPE' lifts the
model's enumeration from a shape whose values we extend ourselves (instance types); 'ready
SHAPE' lets a structure of answers carry its XML made already. '#' begins a comment.

    gen_aws.py --prefix ec2 --model ec2 --list operations.list --out DIR
"""
import argparse
import html
import json
import os
import re
import sys

C_WORDS = set("""auto break case char const continue default do double else enum extern float
for goto if inline int long register restrict return short signed sizeof static struct switch
typedef union unsigned void volatile while bool true false asm linux unix""".split())

SCALARS = {  # type in the model: (descriptor's kind, C type)
    "boolean": ("BOOL", "bool"),
    "integer": ("INT", "int64_t"),
    "long": ("INT", "int64_t"),
    "float": ("F64", "double"),
    "double": ("F64", "double"),
    "timestamp": ("TIME", "int64_t"),
}
TEXTS = {
    "string": ("STR", "const char *"),
    "character": ("STR", "const char *"),
    "blob": ("BLOB", "struct blob "),
}
PROTOCOLS = {"ec2": "EC2", "query": "QUERY", "json": "JSON", "rest-json": "REST_JSON",
             "rest-xml": "REST_XML"}
PLACES = {"header": "DESC_IN_HEADER", "querystring": "DESC_IN_QUERY", "uri": "DESC_IN_PATH"}


class ModelError(Exception):
    """The model says something that this generator has no C for."""


def snake(name):
    """RunInstances: run_instances; KMSKeyIDs: kms_key_ids. As boto3 spells it."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    name = re.sub(r"([A-Z]+)s(?=$|[A-Z_])", lambda m: m.group(1).capitalize() + "s"
                  if len(m.group(1)) > 1 else m.group(0), name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    name = re.sub(r"__+", "_", name).lower()
    return name + "_" if name in C_WORDS else name


def c_string(text):
    """A C literal, or NULL."""
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def first_sentence(documentation, limit):
    """The model's HTML comment, cut to a line."""
    text = html.unescape(re.sub(r"<[^>]*>", " ", documentation or ""))
    text = re.sub(r"\s+", " ", text).strip().replace("*/", "* /").replace("/*", "/ *")
    text = text.encode("ascii", "replace").decode().replace("??", "?")
    end = re.search(r"\.(?= |$)", text)
    text = text[: end.start() + 1] if end else text
    if len(text) > limit:
        text = text[:limit].rsplit(" ", 1)[0] + " ..."
    return text


def posix_pattern(pattern):
    """The pattern as an anchored POSIX extended expression, or None if it has none."""
    if pattern is None:
        return None
    out = re.sub(r"\[([^\]]*)\]", lambda m: "[" + bracket(m.group(1)) + "]", pattern)
    out = out.replace("\\d", "[0-9]").replace("\\w", "[A-Za-z0-9_]")
    out = out.replace("\\s", "[[:space:]]").replace("\\S", "[^[:space:]]")
    out = out.replace("\\-", "-").replace("\\/", "/").replace("\\:", ":")
    if re.search(r"\(\?|\\[A-Za-z0-9]|[*+?}][?+]|\{\d*,?\d{4,}\}|\[[^\]]*\\", out):
        return None
    if re.search(r"[^\x20-\x7e]", out):
        return None
    body = out.removeprefix("^")
    body = body.removesuffix("$") if not body.endswith("\\$") else body
    return "^(" + body + ")$" if "|" in body else "^" + body + "$"


def bracket(inside):
    """The inside of [...]: classes written out, needless escapes dropped, '-' last."""
    inside = inside.replace("\\d", "0-9").replace("\\w", "A-Za-z0-9_")
    inside = inside.replace("\\s", " \t")
    dash = "\\-" in inside
    inside = re.sub(r"\\([^A-Za-z0-9\\])", r"\1", inside.replace("\\-", ""))
    return inside + "-" if dash else inside


class Operation:
    """One line of the list, with what the model says of it."""

    def __init__(self, name, writes, model):
        self.name = name
        self.writes = writes
        self.model = model
        self.input = model.get("input", {}).get("shape")
        self.output = model.get("output", {}).get("shape")
        self.wrapper = model.get("output", {}).get("resultWrapper")
        self.http = model.get("http", {})


class Generator:
    """Everything about one service."""

    def __init__(self, model, prefix, list_text):
        self.prefix = prefix
        self.meta = model["metadata"]
        self.shapes = dict(model["shapes"])
        self.all_operations = model["operations"]
        self.protocol = self.meta["protocol"]
        self.opened = set()
        self.ready = set()
        self.operations = []
        self.read_list(list_text)
        self.order = []  # Structures reachable, inner ones first where they can be.
        self.used_in, self.used_out = set(), set()
        for op in self.operations:
            if op.input is None:
                op.input = op.name + "Request"
                self.shapes.setdefault(op.input, {"type": "structure", "members": {}})
            self.reach(op.input, self.used_in)
            if op.output:
                self.reach(op.output, self.used_out)
        # EC2 writes the lists that a Describe is about even when they are empty.
        self.whole_answers = {
            op.output for op in self.operations
            if self.protocol == "ec2" and op.output and op.name.startswith("Describe")
            and not op.name.endswith("Attribute")}

    def read_list(self, text):
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if len(words) == 2 and words[0] == "open":
                self.opened.add(words[1])
            elif len(words) == 2 and words[0] == "ready":
                self.ready.add(words[1])
            elif len(words) == 2 and words[1] in ("read", "write"):
                if words[0] not in self.all_operations:
                    raise ModelError(f"line {number}: the model has no {words[0]}")
                self.operations.append(Operation(words[0], words[1] == "write",
                                                 self.all_operations[words[0]]))
            else:
                raise ModelError(f"line {number}: want 'NAME read' or 'NAME write'")
        self.operations.sort(key=lambda op: op.name)

    def reach(self, name, seen):
        """Notes every structure that 'name' leads to; shapes may lead to themselves."""
        if name in seen:
            return
        shape = self.shapes[name]
        kind = shape["type"]
        if kind == "structure":
            seen.add(name)
            for member in shape["members"].values():
                self.reach(member["shape"], seen)
            if name not in self.order:
                self.order.append(name)
        elif kind == "list":
            seen.add(name)
            self.reach(shape["member"]["shape"], seen)

    # ---- names --------------------------------------------------------------------------

    def struct(self, shape_name):
        return f"{self.prefix}_{snake(shape_name)}"

    def handler(self, op):
        return f"{self.prefix}_{snake(op.name)}"

    def in_name(self, name, member, shape):
        """As botocore's serializers name a request parameter."""
        location = member.get("locationName")
        if self.protocol == "ec2":
            if "queryName" in member:
                return member["queryName"]
            return location[0].upper() + location[1:] if location else name
        if self.flattened(member, shape):
            location = shape["member"].get("locationName") or location
        return location or name

    def out_name(self, name, member, shape):
        """As botocore's parsers look for a response element."""
        location = member.get("locationName")
        if self.flattened(member, shape) and self.protocol != "ec2":
            location = shape["member"].get("locationName") or location
        return location or name

    @staticmethod
    def flattened(member, shape):
        return shape["type"] in ("list", "map") and bool(
            member.get("flattened") or shape.get("flattened"))

    # ---- api.h --------------------------------------------------------------------------

    def member_type(self, shape_name):
        """The C declaration's type, up to where the name begins."""
        shape = self.shapes[shape_name]
        kind = shape["type"]
        if kind in SCALARS:
            return SCALARS[kind][1] + " "
        if kind in TEXTS:
            return TEXTS[kind][1]
        if kind == "structure":
            return f"struct {self.struct(shape_name)} *"
        if kind == "map":
            self.check_map(shape_name, shape)
            return "LIST_OF(struct desc_pair) "
        item = shape["member"]["shape"]
        item_shape = self.shapes[item]
        if item_shape["type"] in ("list", "map"):
            raise ModelError(f"{shape_name}: a list of lists")
        if item_shape["type"] == "structure":
            return f"LIST_OF(struct {self.struct(item)}) "
        return f"LIST_OF({self.member_type(item).strip()}) "

    def check_map(self, name, shape):
        for side in ("key", "value"):
            if self.shapes[shape[side]["shape"]]["type"] not in TEXTS:
                raise ModelError(f"{name}: a map of other than text to text")

    def is_scalar(self, member):
        return self.shapes[member["shape"]]["type"] in SCALARS

    def declare_struct(self, name):
        shape = self.shapes[name]
        lines = []
        comment = first_sentence(shape.get("documentation"), 78)
        if comment:
            lines.append(f"/* {comment} */")
        lines.append(f"struct {self.struct(name)} {{")
        flags = []
        for member_name, member in shape["members"].items():
            text = f"    {self.member_type(member['shape'])}{snake(member_name)};"
            comment = first_sentence(member.get("documentation"), 91 - len(text))
            if len(comment) > 12:
                text += f" /* {comment} */"
            lines.append(text)
            if self.is_scalar(member):
                flags.append(f"has_{snake(member_name)}")
        for flag in flags:
            lines.append(f"    bool {flag};")
        if name in self.ready:
            lines.append("    struct blob ready; /* The members' XML, where it is made already. */")
        if not shape["members"]:
            lines.append("    bool nothing; /* The model gives it no members. */")
        lines.append("};")
        return "\n".join(lines)

    def prototype(self, op):
        out = f"struct {self.struct(op.output)} *out, " if op.output else ""
        name = self.handler(op)
        return (f"bool {name}(struct call *call, const struct {self.struct(op.input)} *in,\n"
                f"{' ' * len('bool ' + name)} {out}struct err *err)")

    def header(self):
        out = [f"/* {self.prefix}/api.h - the {self.prefix} service in C: generated by "
               "tools/gen_aws.py, do not edit.",
               " *",
               " * A member that the model calls 'InstanceId' is 'instance_id'. Absent text,",
               " * structures and lists are NULL; a number, boolean or time is there when its",
               " * has_ member says so. Handlers read 'in', fill 'out' (zeroed) from the call's",
               " * arena, and are written in this folder. */",
               "#pragma once",
               '#include "service/service.h"',
               ""]
        out += [f"struct {self.struct(name)};" for name in self.order]
        out.append("")
        for name in self.order:
            out += [self.declare_struct(name), ""]
        out += [f"extern const struct desc {self.struct(name)}_desc;" for name in self.order]
        out += ["", "/* The handlers. */"]
        out += [self.prototype(op) + ";" for op in self.operations]
        out += ["", f"extern const struct service {self.prefix}_service;", ""]
        return "\n".join(out)

    # ---- api.c --------------------------------------------------------------------------

    def enum_of(self, shape_name):
        shape = self.shapes[shape_name]
        if shape["type"] == "list":
            shape_name = shape["member"]["shape"]
            shape = self.shapes[shape_name]
        if shape_name in self.opened or "enum" not in shape:
            return None
        return shape_name

    def limits(self, shape):
        """min, max, whether they bind."""
        low, high = shape.get("min"), shape.get("max")
        if low is None and high is None or shape["type"] in ("structure", "map"):
            return "0", "0", False
        low = "INT64_MIN" if low is None else str(int(low))
        high = "INT64_MAX" if high is None else str(int(high))
        return low, high, True

    def field_flags(self, owner_name, name, member, shape, binds):
        owner = self.shapes[owner_name]
        flags = []
        if name in owner.get("required", []):
            flags.append("DESC_REQUIRED")
        if shape.get("sensitive"):
            flags.append("DESC_SEALED")
        if self.flattened(member, shape):
            flags.append("DESC_FLATTENED")
        if binds:
            flags.append("DESC_HAS_RANGE")
        if member.get("location") in PLACES:
            flags.append(PLACES[member["location"]])
        elif member.get("location"):
            raise ModelError(f"location '{member['location']}' of {name}")
        if shape["type"] == "list" and owner_name in self.whole_answers:
            flags.append("DESC_LIST_ALWAYS")
        if owner.get("payload") == name:
            flags.append("DESC_PAYLOAD")
        return " | ".join(flags)

    def field(self, owner_name, name, member):
        shape = self.shapes[member["shape"]]
        kind = shape["type"]
        struct = f"struct {self.struct(owner_name)}"
        wire = name
        if self.protocol in ("json", "rest-json") and not member.get("location"):
            wire = member.get("locationName", name)
        parts = [f".name = {c_string(wire)}"]
        for slot, value in (("in_name", self.in_name(name, member, shape)),
                            ("out_name", self.out_name(name, member, shape))):
            if value != wire:
                parts.append(f".{slot} = {c_string(value)}")
        parts.append(f".out_len = {len(self.out_name(name, member, shape))}")
        low, high, binds = self.limits(shape)
        if kind == "list":
            self.list_parts(shape, parts)
        elif kind == "structure":
            parts.append(f".kind = DESC_STRUCT, .type = &{self.struct(member['shape'])}_desc")
        elif kind == "map":
            parts.append(".kind = DESC_MAP, .item_kind = DESC_STR")
        else:
            parts.append(f".kind = DESC_{(SCALARS.get(kind) or TEXTS[kind])[0]}")
        enum = self.enum_of(member["shape"])
        if enum:
            parts.append(f".values = values_{snake(enum)}")
        pattern = posix_pattern(shape.get("pattern"))
        if pattern:
            parts.append(f".pattern = {c_string(pattern)}")
        if binds:
            parts.append(f".min = {low}, .max = {high}")
        parts.append(f".offset = offsetof({struct}, {snake(name)})")
        has = f"offsetof({struct}, has_{snake(name)})" if kind in SCALARS else "DESC_ALWAYS"
        parts.append(f".has_offset = {has}")
        flags = self.field_flags(owner_name, name, member, shape, binds)
        if flags:
            parts.append(f".flags = {flags}")
        return "    {" + ",\n     ".join(parts) + "},"

    def list_parts(self, shape, parts):
        item = shape["member"]
        item_shape = self.shapes[item["shape"]]
        kind = item_shape["type"]
        item_name = item.get("locationName", "member")
        parts.append(f".item_name = {c_string(item_name)}, .item_len = {len(item_name)}")
        if kind == "structure":
            parts.append(".kind = DESC_LIST, .item_kind = DESC_STRUCT, "
                         f".type = &{self.struct(item['shape'])}_desc")
        else:
            word = (SCALARS.get(kind) or TEXTS[kind])[0]
            parts.append(f".kind = DESC_LIST, .item_kind = DESC_{word}")

    def describe(self, name):
        shape = self.shapes[name]
        struct = self.struct(name)
        fields = [self.field(name, m, member) for m, member in shape["members"].items()]
        out = []
        if fields:
            out += [f"static const struct desc_field {struct}_fields[] = {{", *fields, "};"]
        ready = f" offsetof(struct {struct}, ready)," if name in self.ready else ""
        out += [f"const struct desc {struct}_desc = {{",
                f"    {c_string(name)}, {struct + '_fields' if fields else 'NULL'}, "
                f"{len(fields)}, sizeof(struct {struct}),{ready}", "};", ""]
        return "\n".join(out)

    def descriptors(self):
        enums = []
        for name in self.order:
            for member in self.shapes[name]["members"].values():
                enum = self.enum_of(member["shape"])
                if enum and enum not in enums:
                    enums.append(enum)
        out = [f"/* {self.prefix}/api.c - what {self.prefix}'s structs look like: generated "
               "by tools/gen_aws.py, do not edit. */",
               f'#include "service/{self.prefix}/api.h"', ""]
        for enum in sorted(enums):
            out.append(f"static const char *const values_{snake(enum)}[] = {{")
            out += [f"    {c_string(value)}," for value in self.shapes[enum]["enum"]]
            out += ["    NULL,", "};"]
        out.append("")
        out += [self.describe(name) for name in self.order]
        return "\n".join(out)

    # ---- table.c ------------------------------------------------------------------------

    def adapter(self, op):
        name = self.handler(op)
        argument = ", out" if op.output else ""
        out = ["static bool",
               f"run_{name}(struct call *call, const void *in, void *out, struct err *err)",
               "{"]
        if not op.output:
            out.append("    (void)out;")
        out += [f"    return {name}(call, in{argument}, err);", "}", ""]
        return "\n".join(out)

    def table_line(self, op):
        out = f"&{self.struct(op.output)}_desc" if op.output else "NULL"
        parts = [f".name = {c_string(op.name)}", f".in = &{self.struct(op.input)}_desc",
                 f".out = {out}", f".run = run_{self.handler(op)}",
                 f".writes = {'true' if op.writes else 'false'}"]
        if op.wrapper:
            parts.append(f".result_wrapper = {c_string(op.wrapper)}")
        if self.protocol.startswith("rest-"):
            parts.append(f".method = {c_string(op.http.get('method', 'POST'))}")
            parts.append(f".path = {c_string(op.http.get('requestUri', '/'))}")
            parts.append(f".status = {int(op.http.get('responseCode', 200))}")
        return "    {" + ",\n     ".join(parts) + "},"

    def table(self):
        served = {op.name for op in self.operations}
        others = sorted(name for name in self.all_operations if name not in served)
        out = [f"/* {self.prefix}/table.c - what can be called in {self.prefix}: generated by "
               "tools/gen_aws.py, do not edit. */",
               f'#include "service/{self.prefix}/api.h"', ""]
        out += [self.adapter(op) for op in self.operations]
        out += ["static const struct operation operations[] = {"]
        out += [self.table_line(op) for op in self.operations]
        out += ["};", "", "/* AWS has these as well; they are answered as not supported. */",
                "static const char *const others[] = {"]
        out += [f"    {c_string(name)}," for name in others] + ["    NULL,", "};", ""]
        out += [f"const struct service {self.prefix}_service = {{",
                f"    .name = {c_string(self.prefix)},",
                f"    .protocol = PROTOCOL_{PROTOCOLS[self.protocol]},",
                f"    .api_version = {c_string(self.meta['apiVersion'])},",
                f"    .xml_namespace = {c_string(self.meta.get('xmlNamespace'))},",
                f"    .target_prefix = {c_string(self.meta.get('targetPrefix'))},",
                f"    .json_version = {c_string(self.meta.get('jsonVersion'))},",
                "    .operations = operations,",
                "    .operation_count = ARRAY_LEN(operations),",
                "    .others = others,",
                f"    .other_count = {len(others)},",
                "};", ""]
        return "\n".join(out)


def find_model(word):
    """A path as it is; a service's name: the newest model that Debian's botocore carries."""
    if os.path.exists(word) and word.endswith(".json"):
        return word
    sys.path.append("/usr/lib/python3/dist-packages")
    import botocore  # pylint: disable=import-outside-toplevel

    for root in (os.path.dirname(botocore.__file__),
                 "/usr/lib/python3/dist-packages/botocore"):
        folder = os.path.join(root, "data", word)
        if os.path.isdir(folder):
            for version in sorted(os.listdir(folder), reverse=True):
                path = os.path.join(folder, version, "service-2.json")
                if os.path.exists(path):
                    return path
    raise ModelError(f"no model of '{word}': install python3-botocore")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", required=True, help="of the C names: ec2")
    parser.add_argument("--model", required=True, help="a file, or a service's name")
    parser.add_argument("--list", required=True, help="the operations that are served")
    parser.add_argument("--out", required=True, help="folder for api.h, api.c and table.c")
    options = parser.parse_args()
    try:
        with open(find_model(options.model), encoding="utf-8") as file:
            model = json.load(file)
        with open(options.list, encoding="utf-8") as file:
            generator = Generator(model, options.prefix, file.read())
        files = {"api.h": generator.header(), "api.c": generator.descriptors(),
                 "table.c": generator.table()}
    except (ModelError, OSError, KeyError) as error:
        sys.exit(f"gen_aws.py: {options.list}: {error}")
    for name, text in files.items():
        with open(os.path.join(options.out, name), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
