"""What reaches a terminal or a pipe: names are only data, and nobody needs to listen to the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from pytest_gpusim.errors import UsageError, plain_lines


class _Output:
    """A stream on which names cannot act, and that a reader may leave early.

    Control characters and escapes of a terminal are spelled out, signs that the stream's encoding
    lacks are replaced, and after a broken pipe what is written is dropped: the command goes on to
    its own exit code. Nor does anything that is wrong with standard error (``required=False``) end
    a command; lines of progress, such as Vidur's, begin anew on it by a carriage return.
    """

    def __init__(self, stream: TextIO, *, plain: bool = True, required: bool = True) -> None:
        self._stream = stream
        self._plain = plain
        self._required = required

    @property
    def drawing(self) -> _Output:
        """The same, for a progress bar, which is drawn by escapes."""
        return _Output(self._stream, plain=False, required=self._required)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text as plain lines."""
        said = text
        if self._plain:
            parts = [text] if self._required else text.split("\r")
            said = "\r".join(map(plain_lines, parts))
        self._try("write", said)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, as far as somebody listens."""
        self._try("flush")

    def close(self) -> None:
        """What closes it, such as a plugin, has written its last; the command has not."""
        self.flush()

    def _try(self, name: str, *arguments: str) -> None:
        try:
            getattr(self._stream, name)(*arguments)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            text = arguments[0].encode(encoding, "replace").decode(encoding)
            getattr(self._stream, name)(text)
        except BrokenPipeError:
            self._drop()
        except OSError as error:
            self._drop()
            if self._required:
                said = f"standard output cannot be written: {error.strerror}"
                raise UsageError(said) from None

    def _drop(self) -> None:
        try:
            descriptor = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            # The interpreter flushes this stream once more at its end.
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        except (OSError, ValueError):
            pass


@contextmanager
def plain_output() -> Iterator[None]:
    """Let what is printed inside pass through `_Output`, and be flushed at the end."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    with ExitStack() as opened:
        # A stream that was closed before the start is None.
        out, err = (
            stream or opened.enter_context(Path(os.devnull).open("w"))
            for stream in (sys.stdout, sys.stderr)
        )
        output, errors = _Output(out), _Output(err, required=False)
        with redirect_stdout(cast(TextIO, output)), redirect_stderr(cast(TextIO, errors)):
            try:
                yield
            finally:
                output.flush()


def tell(line: str) -> None:
    """A line on standard error, as far as there is one."""
    if sys.stderr is not None:
        errors = _Output(sys.stderr, required=False)
        errors.write(f"{line}\n")
        errors.flush()
