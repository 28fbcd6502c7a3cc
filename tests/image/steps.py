"""The steps of a Dockerfile, taken in a folder where there is no engine to build an image with.

A stage's file system is a folder, and whatever names an absolute path in a command or in the
environment is led there. A stage that is done moves aside, so that the next one has the same
place: what refers to itself by its path can be copied from one to the other, as in an image.
Only steps without a shell can be taken.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CARRIED_ON = re.compile(r"\\\n")
PASSED_ON = ("PIP_", "SSL_", "HTTP", "NO_PROXY", "XDG_", "HOME", "PATH")
"""How variables begin that a step of the build gets from here: where packages come from."""


@dataclass(frozen=True)
class Step:
    """An instruction, such as `COPY --from=build /data /data`."""

    instruction: str
    options: Mapping[str, str]
    rest: str

    @property
    def words(self) -> list[str]:
        """The exec form, or the words of an instruction that has none.

        Raises:
            ValueError: It needs a shell.
        """
        if self.rest.startswith("["):
            words: list[str] = json.loads(self.rest)
            return words
        if self.instruction in {"RUN", "CMD", "ENTRYPOINT"}:
            message = f"{self.instruction} {self.rest[:40]} needs a shell"
            raise ValueError(message)
        return shlex.split(self.rest)


def read_steps(text: str) -> list[Step]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = CARRIED_ON.sub("", "\n".join(lines)).splitlines()
    return [_read_step(line) for line in joined if line.strip()]


def _read_step(line: str) -> Step:
    instruction, rest = line.split(maxsplit=1)
    options: dict[str, str] = {}
    while rest.startswith("--"):
        option, rest = rest.split(maxsplit=1)
        name, _, value = option.removeprefix("--").partition("=")
        options[name] = value
    return Step(instruction, options, rest)


@dataclass
class Image:
    """What has come of the steps so far."""

    context: Path
    place: Path
    ports: Mapping[str, str]
    """Ports of the image, and what they are published as."""
    workdir: str = "/"
    env: dict[str, str] = field(default_factory=dict[str, str])
    user: str = "root"
    volumes: list[str] = field(default_factory=list[str])
    entrypoint: list[str] = field(default_factory=list[str])
    cmd: list[str] = field(default_factory=list[str])
    healthcheck: list[str] = field(default_factory=list[str])
    _stage: str = ""

    @property
    def root(self) -> Path:
        return self.place / "root"

    def take(self, step: Step) -> None:
        """Take a step; one that is not known fails."""
        getattr(self, f"_{step.instruction.lower()}")(step)

    def led(self, word: str) -> str:
        """Lead a path below the root, and a port to where it is published."""
        if word.startswith("/"):
            return f"{self.root}{word}".removesuffix("/")
        for port, published in self.ports.items():
            word = re.sub(rf"\b{port}\b", published, word)
        return word

    def command(self, words: Iterable[str]) -> list[str]:
        return [self.led(word) for word in words]

    def freeze(self) -> None:
        """Make the root read-only, but for the volumes."""
        kept = {self.root / volume.lstrip("/") for volume in self.volumes}
        for folder, inner, files in os.walk(self.root):
            inner[:] = [name for name in inner if Path(folder, name) not in kept]
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                if not path.is_symlink():
                    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)

    def thaw(self) -> None:
        """Let it be removed."""
        for folder, _, _ in os.walk(self.root):
            Path(folder).chmod(0o700)

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a container has: nothing of ours."""
        led = {name: self.led(value) for name, value in self.env.items()}
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.root), **led, **more}

    def _from(self, step: Step) -> None:
        tag, *named = step.words
        if self._stage:
            self.root.rename(self.place / self._stage)
        self.root.mkdir()
        self._stage = named[-1] if named else tag
        self.env, self.workdir, self.user = {}, "/", "root"
        self._python = _interpreter(tag)

    def _env(self, step: Step) -> None:
        self.env |= dict(word.split("=", 1) for word in step.words)

    def _workdir(self, step: Step) -> None:
        self.workdir = step.rest
        self._below(step.rest).mkdir(parents=True, exist_ok=True)

    def _run(self, step: Step) -> None:
        words = self.command(step.words)
        words[0] = self._python if words[0] == "python" else words[0]
        ours = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        env = {**ours, **self.environment(PATH=ours["PATH"], HOME=ours.get("HOME", "/"))}
        subprocess.run(words, cwd=self._below(self.workdir), env=env, check=True)

    def _copy(self, step: Step) -> None:
        *sources, target = step.words
        for source in sources:
            found, name = self._source(source, step.options.get("from"))
            into = self._below(target)
            if found.is_dir():
                ignored = shutil.ignore_patterns(*self._allowed()[1])
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                shutil.copy(found, into / name if target.endswith("/") else into)

    def _source(self, source: str, stage: str | None) -> tuple[Path, str]:
        if stage is not None:
            return self.place / stage / source.lstrip("/"), Path(source).name
        if source not in self._allowed()[0]:
            message = f"{source} is not in the context: .dockerignore"
            raise FileNotFoundError(message)
        return self.context / source, Path(source).name

    def _allowed(self) -> tuple[set[str], list[str]]:
        """Return what .dockerignore lets in, and which names it keeps out anywhere."""
        lines = (self.context / ".dockerignore").read_text().splitlines()
        anywhere = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
        return {line[1:] for line in lines if line.startswith("!")}, anywhere

    def _below(self, path: str) -> Path:
        return self.root / Path(self.workdir, path).as_posix().lstrip("/")

    def _user(self, step: Step) -> None:
        self.user = step.rest

    def _volume(self, step: Step) -> None:
        self.volumes += step.words

    def _expose(self, step: Step) -> None:
        assert set(step.words) <= self.ports.keys()

    def _entrypoint(self, step: Step) -> None:
        self.entrypoint = step.words

    def _cmd(self, step: Step) -> None:
        self.cmd = step.words

    def _healthcheck(self, step: Step) -> None:
        self.healthcheck = _read_step(step.rest).words


def _interpreter(tag: str) -> str:
    """Return a Python as the base image has it, where it is here with pip; else this one."""
    wanted = re.sub(r"^python:(\d+\.\d+)-slim$", r"python\1", tag)
    for name in filter(None, (os.environ.get("PYTHON"), wanted)):
        run = subprocess.run([name, "-m", "pip", "--version"], capture_output=True, check=False)
        if run.returncode == 0:
            return name
    return sys.executable


def contained(words: list[str]) -> list[str]:
    """Take the capabilities from a command, so that even root may write only where it is let."""
    if os.getuid() != 0:
        return words
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *words]
