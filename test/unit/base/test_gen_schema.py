"""What gen_schema.py refuses, and that it says where. Usage: test_gen_schema.py GENERATOR"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

GENERATOR = sys.argv.pop()


def generate(text):
    with tempfile.TemporaryDirectory() as folder:
        schema = pathlib.Path(folder, "x.schema")
        schema.write_text(text, encoding="utf-8")
        out = [str(pathlib.Path(folder, name)) for name in ("x.h", "x.c")]
        done = subprocess.run(
            [sys.executable, GENERATOR, "--prefix", "x", "--include", "x.h", str(schema)] + out,
            capture_output=True, text=True, check=False,
        )
        header = pathlib.Path(out[0]).read_text("utf-8") if done.returncode == 0 else ""
        return done.returncode, done.stderr, header


class Refusals(unittest.TestCase):
    CASES = {
        "number twice": ('record a ""\n1 b str ""\n1 c str ""', "line 3: '1' is taken"),
        "name twice": ('record a ""\n1 b str ""\n2 b str ""', "line 3: 'b' is taken"),
        "retired number": ('record a ""\n1 b str retired ""\n1 c str ""', "line 3: '1' is taken"),
        "record twice": ('record a ""\n1 b str ""\nrecord a ""\n1 b str ""', "line 3: 'a'"),
        "unknown type": ('record a ""\n1 b text ""', "line 2: unknown type 'text'"),
        "unknown word": ('record a ""\n1 b str keen ""', "line 2: unknown word 'keen'"),
        "no description": ('record a ""\n1 b str', "line 2: must end with a description"),
        "a C word": ('record a ""\n1 default str ""', "line 2: 'default' cannot be a name"),
        "no fields": ('record a ""', "line 1: 'a' has no fields"),
        "a cycle": ('record a ""\n1 b b ""\nrecord b ""\n1 a list a ""', "a -> b -> a: a cycle"),
        "field first": ('1 b str ""', "line 1: '1' before any record"),
        "no key": ('table a ""\n1 b str ""', "line 1: table a has no key"),
        "index on nothing": ('table a ""\n1 b str key ""\nindex i c', "line 3: index i: a has no"),
        "index on a list": ('table a ""\n1 b str key ""\n2 c list str ""\nindex i c', "line 4"),
        "sealed key": ('table a ""\n1 b str key sealed ""', "line 2: 'b' cannot be part of a key"),
        "sealed number": ('table a ""\n1 b str key ""\n2 c int sealed ""', "line 3: only str"),
        "key in a record": ('record a ""\n1 b str key ""', "line 2: unknown word 'key'"),
        "table as a type": ('table a ""\n1 b str key ""\ntable c ""\n1 d str key ""\n2 e a ""',
                            "line 5: unknown type 'a'"),
    }

    def test_each_mistake_names_its_line(self):
        for what, (text, message) in self.CASES.items():
            with self.subTest(what):
                code, stderr, _ = generate(text + "\n")
                self.assertEqual(code, 1)
                self.assertIn(message, stderr)

    def test_comments_and_quotes_do_not_confuse(self):
        code, stderr, header = generate('# it\'s\nrecord a "x" # y\n1 b list str "# */ it\'s"\n')
        self.assertEqual((code, stderr), (0, ""))
        self.assertIn("LIST_OF(const char *) b; /* # * / it's */", header)


unittest.main()
