"""Each port is small, has a contract suite that is shipped, and every adapter of it is held to that suite."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import modelcd.adapters
import modelcd.testing
from modelcd import ports
from modelcd.testing.faults import EFFECTS, READS

TESTS = Path(__file__).parents[1]

PORTS = {
    name: port
    for name, port in vars(ports).items()
    if inspect.isclass(port) and port.__module__ == ports.__name__ and getattr(port, "_is_protocol", False)
}


def methods(owner: type[Any]) -> set[tuple[str, ...]]:
    """Each public method of *owner* as its name and those of its arguments."""
    functions = [item for name, item in vars(owner).items() if inspect.isfunction(item) and not name.startswith("_")]
    return {(function.__name__, *inspect.signature(function).parameters) for function in functions}


def classes_in(package: Any) -> list[type[Any]]:
    """Every public class that a module of *package* defines."""
    found = []
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        loaded = importlib.import_module(module.name)
        found += [c for _, c in inspect.getmembers(loaded, inspect.isclass) if c.__module__ == loaded.__name__]
    return [c for c in found if not c.__name__.startswith("_")]


def held() -> dict[str, set[str]]:
    """What the subclasses of each contract suite in our tests return from their fixtures, by the suite's name."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if isinstance(base, ast.Name):
                        found.setdefault(base.id, set()).add(node.name.removeprefix("Test"))
    return found


def implemented(adapter: type[Any]) -> list[str]:
    """The ports whose methods *adapter* has, all of them."""
    return [name for name, port in PORTS.items() if methods(port) <= methods(adapter)]


ADAPTERS = [(port, a.__name__) for a in classes_in(modelcd.adapters) for port in implemented(a)]


@pytest.mark.parametrize("name", PORTS)
def test_a_port_has_at_most_four_methods(name: str) -> None:
    assert 1 <= len(methods(PORTS[name])) <= 4


@pytest.mark.parametrize("name", PORTS)
def test_a_port_has_a_contract_suite_that_is_shipped(name: str) -> None:
    assert f"{name}Contract" in {c.__name__ for c in classes_in(modelcd.testing)}


@pytest.mark.parametrize("name", PORTS)
def test_a_port_has_an_adapter_in_memory(name: str) -> None:
    assert (name, f"Memory{name}") in ADAPTERS


@pytest.mark.parametrize(("port", "adapter"), ADAPTERS)
def test_every_adapter_is_held_to_the_contract_of_its_port(port: str, adapter: str) -> None:
    assert adapter in held().get(f"{port}Contract", set())


@pytest.mark.parametrize("name", PORTS)
def test_every_method_of_a_port_is_known_to_change_the_world_or_not_to(name: str) -> None:
    """Whoever adds a method says which it is; an effect then needs a case in the kill matrix, or the suite fails."""
    effects, reads = EFFECTS.get(name, frozenset()), READS.get(name, frozenset())

    assert effects & reads == set()
    assert effects | reads == {method for method, *_ in methods(PORTS[name])}


def test_only_ports_have_effects() -> None:
    assert set(EFFECTS) | set(READS) == set(PORTS)
