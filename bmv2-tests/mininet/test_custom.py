"""Our file under `mn --custom`, which runs its text and copies each of its names into its own namespace.

`mn` itself is not called here: when something fails it kills processes by name and deletes files of others.
"""

import ast
import pathlib

MN = pathlib.Path("/usr/bin/mn")
OURS = pathlib.Path(__file__).with_name("vfabric_mininet.py")
# Names that `mn` looks for in such a file.
WANTED = {"switches", "hosts", "topos"}


def names(node):
    """Names that a module binds at its top."""
    for statement in node.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.Assign):
            yield from (name.id for target in statement.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield statement.name


def main():
    bound = {}
    exec(compile(OURS.read_text(), str(OURS), "exec"), bound)
    assert WANTED <= set(bound), "a name that mn looks for is missing"
    assert bound["switches"]["p4"] and bound["topos"]["exercise"] and bound["hosts"]["p4host"]
    theirs = set(names(ast.parse(MN.read_text())))
    # The same object under the same name does no harm.
    shared = {"Topo", "Host", "Switch", "json", "os", "time", "subprocess", "shutil", "tempfile", "pathlib"}
    clash = (theirs & set(names(ast.parse(OURS.read_text())))) - shared
    assert not clash, f"mn would lose its own {sorted(clash)}"
    print("custom file: ok")


if __name__ == "__main__":
    main()
