"""Messages keep names apart by construction: their words are fixed in the program."""

import ast

import pytest
from helpers.paths import ROOT

WITH_FIXED_WORDS = ("Message", "ImageError", "Damaged", "Words")
CONVERTED = {  # where Words holds what the program or the system knows, and no file
    ("lnq/errors.py", "Words"): "an exception's class, the system's text of an error number",
    ("lnq/archive/discovery.py", "Words"): "one of two verbs, or the known formats",
    ("lnq/archive/gather.py", "Words"): "the system's text of an error",
    ("lnq/batch/write.py", "Words"): "names of the files that every case has",
    ("lnq/batch/workers/worker.py", "Words"): "what became of a process",
    ("lnq/batch/workers/cluster.py", "Words"): "an exception's class",
    ("lnq/dicom/choice.py", "Words"): "a UID of digits and dots, the name of a SOP class, a criterion of the module",
    ("lnq/image/headers/layout.py", "Words"): "a header's field, as the program names it",
    ("lnq/image/itk.py", "Words"): "one of the module's own sentences",
    ("lnq/results/dicom_reference.py", "Words"): "a tag, as the program names it",
}
FILES = sorted((ROOT / "lnq").rglob("*.py"))


def is_fixed(node: ast.expr, module: ast.Module) -> bool:
    """Whether an argument is a literal text, one of several, or a name that stands for nothing else in its module."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.IfExp):
        return is_fixed(node.body, module) and is_fixed(node.orelse, module)
    if not isinstance(node, ast.Name):
        return False
    if node.id.isupper():  # a constant, of this module or another
        return True
    named = [a for a in ast.walk(module) if isinstance(a, ast.Assign) for t in a.targets if ast.unparse(t) == node.id]
    return bool(named) and all(is_fixed(assignment.value, module) for assignment in named)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_the_words_of_messages_are_literals(path):
    name, module = str(path.relative_to(ROOT)), ast.parse(path.read_text())
    for node in ast.walk(module):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WITH_FIXED_WORDS):
            continue
        if (name, node.func.id) not in CONVERTED and name != "lnq/errors.py":
            assert node.args and is_fixed(node.args[0], module), f"line {node.lineno}: {ast.unparse(node)[:100]}"


def test_a_name_in_the_words_is_found():
    for text in ('Message(f"its file {name}")', 'x = "a" + name\nMessage(x)', "Message(name)"):
        module = ast.parse(text)
        (call,) = (node for node in ast.walk(module) if isinstance(node, ast.Call))
        assert not is_fixed(call.args[0], module)
