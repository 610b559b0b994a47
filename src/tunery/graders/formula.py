"""The arithmetic of a multi grader: numbers, names, a few functions, and nothing else."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 2_000
"""Of a formula [characters]."""
_OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


def names_in(formula: str) -> set[str]:
    """Return the graders that a formula names.

    Raises:
        ValueError: It holds something else than arithmetic; says what.
    """
    found: set[str] = set()
    _walk(_parsed(formula), lambda name: found.add(name) or 1.0, compute=None)  # type: ignore[func-returns-value]
    return found


def calculate(formula: str, scores: Mapping[str, float]) -> float:
    """Return the value of a formula over scores; ``^`` is a power and binds as one.

    Raises:
        ValueError: It is no finite number, such as a division by zero.

    >>> calculate("max(a, b) + 2 * b ^ 2", {"a": 0.5, "b": 1.0})
    3.0
    """
    try:
        value = float(_walk(_parsed(formula), scores.__getitem__, compute=True))
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{formula:.80}: {error}") from None
    if not math.isfinite(value):
        raise ValueError(f"{formula:.80}: {value} is no finite number")
    return value


def _parsed(formula: str) -> ast.expr:
    if len(formula) > _LONGEST:
        raise ValueError(f"calculate_output is longer than {_LONGEST} characters")
    try:
        # As Python has it ^ would bind weaker than +.
        return ast.parse(formula.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"calculate_output: {formula:.80} is no formula") from None


def _walk(node: ast.expr, value_of: Callable[[str], float], *, compute: bool | None) -> Any:
    """Return what an expression comes to; with ``compute`` None only look at what it holds."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]  # one of the two
    if isinstance(node, ast.Name):
        return value_of(node.id)
    operands: list[ast.expr]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        work, operands = _OPERATORS[type(node.op)], [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        work, operands = _OPERATORS[type(node.op)], [node.operand]
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _FUNCTIONS
        and node.args
        and not node.keywords
    ):
        work, operands = _FUNCTIONS[node.func.id], node.args
    else:
        raise ValueError(f"calculate_output: {ast.unparse(node):.60} is no arithmetic that it may hold")
    values = [_walk(operand, value_of, compute=compute) for operand in operands]
    if len(values) == 1 and work in (min, max):
        return values[0]
    return work(*values) if compute else 1.0
