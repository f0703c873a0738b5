"""Runs commands in forks of one process that has imported everything; kills or stops at a write.

Started by `test_kills.py` as a process of its own, for torch must have no threads when it forks:
a line of JSON in, `{"words": […], "kill": N or null, "copies": FOLDER or null, "log": FILE}`; a
line out, the exit status and how many writes there were. A write is what the interpreter's audit
hook sees of opening for writing, renaming, making and removing below the folder that is watched,
what SQLite is told, and each fsync, so that a kill there leaves what was written and not renamed.

With `copies` the process is stopped before each write, all its threads between two calls of the
system as `kill -9` would find them, and the folder is copied: what a kill there would leave.
"""

import gc
import importlib
import json
import marshal
import mmap
import os
import shutil
import signal
import sqlite3
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
HELD = 4096
WRITERS = ("files.py", "runs.py", "openings.py", "style.py")  # whose callers tell why they write
JOURNAL = ("append_logs", "acquire")  # so do those of the search's
TEMPLATES: dict[tuple[str, str], CodeType] = {}


class Watch:
    """Counts the writes below a folder, in memory that the parent sees, and kills at one of them.

    Args:
        top: of what is watched.
        kill: number of the write before which the process ends; None: none.
        stops: whether it stops before each, until its parent lets it go on.
        log: gets a line for each write.
    """

    def __init__(self, top: str, kill: int | None, stops: bool, log: str) -> None:
        self.top, self.kill, self.stops = top, kill, stops
        self.count, self.lock = 0, threading.Lock()
        self.shared = mmap.mmap(-1, HELD)
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def start(self) -> None:
        sys.addaudithook(self.hear)
        sync, connect = os.fsync, sqlite3.connect

        def fsync(stream):
            name = Path(f"/proc/self/fd/{stream}").readlink().name
            if not name.startswith("."):  # what is written aside is renamed at once
                self.note("fsync", name)
            sync(stream)

        def connect_traced(*arguments, **named):
            table = connect(*arguments, **named)
            table.set_trace_callback(self.hear_sql)
            return table

        os.fsync, sqlite3.connect = fsync, connect_traced

    def hear(self, event, arguments) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = set("wax+") & set(mode) if isinstance(mode, str) else flags & WRITING
            if writes and self.holds(path) and not self.is_old_lock(path):
                self.note("reopen" if os.path.lexists(path) else event, path)
        elif event in CHANGES and self.changes(event, arguments[0]):
            self.note(event, arguments[0])

    def hear_sql(self, statement: str) -> None:
        if statement.split()[0].upper() in ("BEGIN", "COMMIT"):
            self.note("sqlite", statement)

    def holds(self, path) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.fspath(Path(os.fsdecode(path)).absolute()).startswith(self.top)

    def changes(self, event: str, path) -> bool:
        """Tell what changes a folder from what finds it as it should be."""
        if event in ("os.remove", "os.rmdir") and not Path(os.fsdecode(path)).is_absolute():
            return True  # by a folder's descriptor, as `rmtree` does
        there = os.path.lexists(path)
        return self.holds(path) and there is (event != "os.mkdir")

    @staticmethod
    def is_old_lock(path) -> bool:
        return str(path).endswith(".lock") and Path(path).exists()

    def note(self, event: str, path) -> None:
        with self.lock:
            self.count += 1
            self.shared[:8] = self.count.to_bytes(8, "little")
            line = f"{self.count} {event} {find_caller()} {path}\n"
            os.write(self.log, line.encode())
            if self.count == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.stops:
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # here, not soon

    @property
    def counted(self) -> int:
        return int.from_bytes(self.shared[:8], "little")


def find_caller() -> str:
    """Name the line of medvision that asks for a write; `-` where none does, as in a thread."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        name = frame.f_code.co_name
        if "medvision" in path.parts and path.name not in WRITERS and name not in JOURNAL:
            return f"{path.stem}:{frame.f_lineno}"
        frame = frame.f_back
    return "-"


def run(words: list[str], watch: Watch, log: str) -> None:
    """Be the command, in a fork; tell what it has imported and compiled."""
    stream = os.open(f"{log}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(stream, number)
    status = 1
    watch.start()
    try:
        from medvision.__main__ import main

        main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    Path(f"{log}.known").write_bytes(marshal.dumps(([*sys.modules], TEMPLATES)))
    threading._shutdown()
    import atexit

    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve(top: str, order: dict[str, Any]) -> dict[str, int]:
    """Fork, run, wait; learn what the fork had to, so that the next need not."""
    log, copies = order["log"], order["copies"]
    watch = Watch(top, order["kill"], copies is not None, f"{log}.writes")
    known = Path(f"{log}.known")
    known.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        run(order["words"], watch, log)
    _, status = os.waitpid(child, os.WUNTRACED)
    while os.WIFSTOPPED(status):
        shutil.copytree(top, Path(copies, str(watch.counted)), symlinks=True)
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, os.WUNTRACED)
    os.close(watch.log)
    if known.exists():
        learn(*marshal.loads(known.read_bytes()))
    return {"status": os.waitstatus_to_exitcode(status), "writes": watch.counted}


def learn(modules: list[str], templates: dict[tuple[str, str], CodeType]) -> None:
    """Know what a fork has come to know."""
    TEMPLATES.update(templates)
    for name in modules:
        with suppress(Exception):
            importlib.import_module(name)


def spare_work() -> None:
    """Leave out what writes nothing and takes most of the time of a training so small.

    Every figure is a dot, Hydra does not compose twice to learn that it is no multirun, and a
    template is compiled once.
    """
    from hydra._internal.hydra import Hydra
    from jinja2 import Environment
    from matplotlib.figure import Figure
    from PIL import Image

    from medvision.evaluation.figures import style

    def save(figure, path, *arguments, **named):
        Image.new("RGB", (8, 8)).save(path, format="PNG")

    Figure.savefig, Figure.draw_without_rendering = save, lambda figure: None
    style.styled = lambda draw: lambda *arguments, **named: Figure()  # before others import it
    Hydra.get_mode = lambda *arguments, **named: None
    compile_anew = Environment.compile

    def compile_once(pages, source, name=None, filename=None, **named):
        if (name, source) not in TEMPLATES:
            TEMPLATES[name, source] = compile_anew(pages, source, name, filename, **named)
        return TEMPLATES[name, source]

    Environment.compile = compile_once


def main() -> None:
    top = sys.argv[1]
    sys.argv = ["medvision"]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    spare_work()
    import medvision.training.finish
    import medvision.training.fit  # noqa: F401

    gc.freeze()  # what a collection touches in a fork is copied
    for line in sys.stdin:
        print(json.dumps(serve(top, json.loads(line))), file=answers, flush=True)
    assert threading.active_count() == 1, "a process with threads cannot be forked"


if __name__ == "__main__":
    main()
