"""The texts below the fields of models, from their source.

A class does not keep them.  Pydantic could read them as it makes a class, which is a tenth of a worker's start; here
they are read when somebody asks for a description.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """By field, inherited ones too; of a class that stands in a module, not in a function.

    Raises OSError where the source is not there.
    """
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            texts |= _by_class(base.__module__).get(base.__name__, {})
    return texts


@cache
def _by_class(module: str) -> dict[str, dict[str, str]]:
    """By class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: _below(each) for each in tree.body if isinstance(each, ast.ClassDef)}


def _below(definition: ast.ClassDef) -> dict[str, str]:
    texts: dict[str, str] = {}
    for field, text in pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(about))):
                texts[name] = inspect.cleandoc(about)
            case _:
                continue
    return texts
