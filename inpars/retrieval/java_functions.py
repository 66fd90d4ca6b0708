"""Java functions put together from methods that Java already has, so that a whole batch runs in Java's own threads.

Every call from Python costs microseconds and holds Python's lock; one call for a batch costs nothing. Knows nothing of
search; `lucene.py` does. Handles are `java.lang.invoke.MethodHandle`, signatures as in class files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from inpars.retrieval.java import java_cast, java_class

Handle: TypeAlias = Any  # pyjnius has no types
_HANDLE, _HANDLES = "Ljava/lang/invoke/MethodHandle;", "java.lang.invoke.MethodHandles"
_PROXIES = "java.lang.invoke.MethodHandleProxies"
_POOL, _TASK = "java.util.concurrent.ForkJoinPool", "java.util.concurrent.Callable"
_NAMELESS_SINCE = 24


def method(owner: str, name: str, signature: str) -> Handle:
    """A public method; its object is the first argument."""
    return _lookup().findVirtual(class_named(owner), name, _type(signature))


def static_method(owner: str, name: str, signature: str) -> Handle:
    """A public static method."""
    return _lookup().findStatic(class_named(owner), name, _type(signature))


def field(owner: str, name: str, kind: str) -> Handle:
    """A function from an object to one of its public fields, whose class is `kind`."""
    return _lookup().findGetter(class_named(owner), name, class_named(kind))


def retyped(handle: Handle, signature: str) -> Handle:
    """The same function with arguments and result of other, convertible types."""
    return handle.asType(_type(signature))


def pipe(first: Handle, *others: Handle) -> Handle:
    """Each function applied to the result of the one before."""
    for handle in others:
        first = _handles().filterReturnValue(first, handle)
    return first


def with_arguments(handle: Handle, position: int, *values: Any) -> Handle:
    """The function with some of its arguments, from a position on, given for good."""
    return _handles().insertArguments(handle, position, *values)


def after(effect: Handle, handle: Handle) -> Handle:
    """A function of one int that hands it to `effect` and then gives what `handle`, which takes nothing, gives."""
    return _handles().foldArguments(_handles().dropArguments(handle, 0, java_class("java.lang.Integer").TYPE), effect)


def taking_function(handle: Handle, interface: str, function: Handle) -> Handle:
    """`handle` with its second argument, of an interface with one method, given: `function` in that interface's form.

    In newer Javas the object's class has no name by which pyjnius could find it, so Java itself makes it and gives it;
    Java 21 lets nobody make it that way, but has names for such classes.
    """
    kind, signature = class_named(interface), "(Ljava/lang/Class;Ljava/lang/invoke/MethodHandle;)Ljava/lang/Object;"
    if java_class("java.lang.Runtime").version().feature() < _NAMELESS_SINCE:
        return with_arguments(handle, 1, java_class(_PROXIES).asInterfaceInstance(kind, function))
    proxy = with_arguments(static_method(_PROXIES, "asInterfaceInstance", signature), 0, kind, function)
    give = static_method(_HANDLES, "insertArguments", f"({_HANDLE}I[Ljava/lang/Object;){_HANDLE}")
    give = _handles().collectArguments(give.asCollector(class_named("[Ljava.lang.Object;"), 1), 2, proxy)
    return java_cast("java.lang.invoke.MethodHandle", call(give, [handle, java_class("java.lang.Integer")(1)]))


def call(handle: Handle, arguments: Sequence[Any] = ()) -> Any:
    """Call a function from Python."""
    values = java_class("java.util.ArrayList")()
    for argument in arguments:
        values.add(argument)
    return handle.invokeWithArguments(values)


class Pool:
    """Java threads that work on batches while Python goes on."""

    def __init__(self, threads: int) -> None:
        self._pool = java_class(_POOL)(threads)

    def submit(self, handle: Handle) -> Any:
        """Start a function without arguments; its result is what `join` of the answer gives."""
        submit = method(_POOL, "submit", f"(L{_TASK.replace('.', '/')};)Ljava/util/concurrent/ForkJoinTask;")
        return call(taking_function(submit, _TASK, handle), [self._pool])

    def close(self) -> None:
        self._pool.shutdown()


def mapped_in_parallel(function: Handle) -> Handle:
    """A function from a List to the array of `function`'s results, in order; within a `Pool`, by all its threads."""
    stream = method("java.util.List", "parallelStream", "()Ljava/util/stream/Stream;")
    apply = method("java.util.stream.Stream", "map", "(Ljava/util/function/Function;)Ljava/util/stream/Stream;")
    collect = method("java.util.stream.Stream", "toArray", "()[Ljava/lang/Object;")
    return pipe(stream, taking_function(apply, "java.util.function.Function", function), collect)


def class_named(name: str) -> Any:
    """A `java.lang.Class` by its full name."""
    return java_class("java.lang.Class").forName(name)


@lru_cache(maxsize=1)
def _lookup() -> Any:
    return _handles().publicLookup()


def _handles() -> Any:
    return java_class(_HANDLES)


def _type(signature: str) -> Any:
    loader = java_class("java.lang.ClassLoader").getSystemClassLoader()
    return java_class("java.lang.invoke.MethodType").fromMethodDescriptorString(signature, loader)
