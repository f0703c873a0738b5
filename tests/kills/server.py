"""Runs commands in forks of one process that has imported everything, and kills them at a write.

Started by `test_kills.py` as a process of its own, for torch must have no threads when it forks:
a line of JSON in, `{"words": […], "kill": N or null, "log": FILE}`; a line out, the exit status,
how many writes there were, and what the last of them was. A write is what the interpreter's audit
hook sees of opening for writing, renaming, making and removing below the folder that is watched,
what SQLite is told, and each fsync, so that a kill there leaves what was written and not renamed.
"""

import importlib
import json
import mmap
import os
import signal
import sqlite3
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
HELD = 4096


class Watch:
    """Counts the writes below a folder, in memory that the parent sees, and kills at one of them.

    Args:
        top: of what is watched.
        kill: number of the write before which the process ends; None: none.
        log: gets a line for each write.
    """

    def __init__(self, top: str, kill: int | None, log: str) -> None:
        self.top, self.kill = top, kill
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
                self.note(event, path)
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
            os.write(self.log, f"{self.count} {event} {path}\n".encode())
            if self.count == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)

    @property
    def counted(self) -> int:
        return int.from_bytes(self.shared[:8], "little")


def run(words: list[str], watch: Watch, told: int, out: str) -> None:
    """Be the command, in a fork; tell the modules it has imported."""
    stream = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
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
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(BrokenPipeError):
        os.write(told, json.dumps([*sys.modules]).encode())
    threading._shutdown()
    import atexit

    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def serve(top: str, words: list[str], kill: int | None, log: str) -> dict[str, object]:
    """Fork, run, wait; import here what the fork had to, so that the next need not."""
    watch = Watch(top, kill, f"{log}.writes")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        run(words, watch, write, f"{log}.out")
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        modules = stream.read()
    _, status = os.waitpid(child, 0)
    os.close(watch.log)
    with suppress(ValueError):
        for name in json.loads(modules):
            with suppress(Exception):
                importlib.import_module(name)
    return {"status": os.waitstatus_to_exitcode(status), "writes": watch.counted}


def draw_nothing() -> None:
    """Let every figure be a dot: drawing is most of the time of a training so small."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save(figure, path, *arguments, **named):
        Image.new("RGB", (8, 8)).save(path, format="PNG")

    Figure.savefig, Figure.draw_without_rendering = save, lambda figure: None


def main() -> None:
    top = sys.argv[1]
    sys.argv = ["medvision"]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import medvision.training.finish
    import medvision.training.fit  # noqa: F401

    draw_nothing()
    for line in sys.stdin:
        order = json.loads(line)
        os.environ |= order.get("env", {})
        outcome = serve(top, order["words"], order["kill"], order["log"])
        print(json.dumps(outcome), file=answers, flush=True)
    assert threading.active_count() == 1, "a process with threads cannot be forked"


if __name__ == "__main__":
    main()
